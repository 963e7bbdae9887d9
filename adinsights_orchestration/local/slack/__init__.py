"""The local stack's Slack: a Web API that alerts are sent to, and a page that shows the channels."""
