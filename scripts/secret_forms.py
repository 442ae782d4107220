"""What a secret of our own looks like, for detect-secrets."""

import re

from detect_secrets.plugins.base import RegexBasedDetector


class AgentgwKeyDetector(RegexBasedDetector):
    """A client key, as ``agentgw keys create`` prints it."""

    secret_type = "agentgw key"  # pragma: allowlist secret
    denylist = (re.compile(r"agw_[0-9a-f]{8,}_[A-Za-z0-9_-]{43}"),)
