"""The members' side of the data path: connections that are kept, requests that are forwarded."""
