"""Every log key and every metric, with its meaning: the vocabulary of the platform's telemetry.

A key has the form `subject.happening`.  `tests/tidy` checks that what the code emits stands here,
and the reference documentation is printed from here.  A key that operators filter for is never
reused with another meaning.
"""

from __future__ import annotations

LOG_KEYS: dict[str, str] = {
    "agent.bug": "an exception that nobody expected, with its traceback: report it",
    "agent.event": "a supervised agent started, ended, crashed (`error`), is restarted, or hangs",
    "agent.stop_failed": "an agent did not answer to the request to stop and was killed",
    "application.trouble": "a step of an application failed and will be tried again",
    "attachments.trouble": "a stored attachment is damaged, or could not be removed",
    "bundles.trouble": "a bundle could not be fetched from other nodes, or kept for them",
    "certificate.renewal_failed": "the certificate could not be renewed yet; it is still good",
    "certificates.notice": "the certificate agent issued, refused or revoked something",
    "cluster.members_not_changed": "the members of the replicated log could not be changed",
    "component.entered": "somebody ran a command, copied files or connected inside a component",
    "container.exited": "the process of a container ended, with the facts of the kernel",
    "containers.unreachable": "the container controller does not answer; it is tried again",
    "controller.trouble": "a step of a component's life failed and will be tried again",
    "dns.keys_not_read": "the keys of secondaries could not be read: none gets the zone by a key",
    "dns.not_announced": "where this node's agents listen could not be told to the cluster yet",
    "dns.not_listening": "names are answered for containers only: the address could not be had",
    "dns.path_not_opened": "the way that a component's question for a name was to open",
    "gateway.path": "a gateway's way to a member could not be opened; it is tried again",
    "hub.access_refused": "a caller from outside showed a certificate that is not an operator's",
    "hub.access_unavailable": "the address for callers from outside could not be had; tried again",
    "hub.log_damaged": "the replicated log on the disk is damaged: put aside, and fetched anew",
    "hub.peers_not_kept": "where the other nodes are could not be written down for the next start",
    "images.trouble": "a layer could not be fetched from other nodes, or kept for them",
    "library.message": "what a part without a logger of its own had to say",
    "log.dropped": "lines were dropped since their reader was too slow; `count` of them",
    "mesh.trouble": "a connection with another node failed, was refused, or broke",
    "node.member_changed": "who votes in the replicated log, or observes it, was changed",
    "node.not_cleared": "what ran on this removed node could not be ended yet",
    "node.not_declared_lost": "that another node is lost could not be written",
    "node.not_given_up": "that another node is lost for good could not be written",
    "node.not_present": "this node could not be reported to the cluster; it is tried again",
    "node.not_ready": "that components can be created here could not be told to the cluster",
    "node.not_renewed": "the lease of this node was not prolonged",
    "node.not_taken_out": "that a removed node is gone could not be written; it is tried again",
    "node.ready": "all agents of the node run: components can be created",
}

METRICS: dict[str, str] = {
    "telemetry.series_dropped": "figures refused because the process has too many series",
}
