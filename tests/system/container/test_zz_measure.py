import os, signal, time, trio, msgspec, pytest
from pathlib import Path
from paas.real.kernel_fence import LeaseFile, boottime_s, _leaves, _processes
async def test_m(fresh_node, launch):
    c = launch(fresh_node); await c.read("ready")
    for _ in range(30):
        c.tell({"start": msgspec.to_builtins(fresh_node.spec("sleep","600"))})
    for _ in range(30): await c.read("started")
    await c.ask("leased", {"lease": boottime_s()+2})
    page = LeaseFile(fresh_node.settings.lease_file)
    pid = page.watchdog[0]
    print(open(f"/proc/{pid}/smaps_rollup").read().split("Private_H")[0])
    os.kill(c.process.pid, signal.SIGSTOP)
    n = len(_processes(_leaves(page.groups)))
    while _processes(_leaves(page.groups)): time.sleep(0.002)
    print("processes", n, "dead after", boottime_s()-page.deadline_s, "marked after", page.fenced_s-page.deadline_s)
    a=open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[11:13]; time.sleep(5); b=open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[11:13]
    print("cpu ticks in 5 s expired", a, b)
async def test_l(node):
    await node.engine.lease(boottime_s()+60)
    t=time.perf_counter()
    for i in range(200): await node.engine.lease(boottime_s()+60)
    print("lease() ms", (time.perf_counter()-t)/200*1e3)
    t=time.perf_counter()
    for i in range(5):
        await node.engine.lease(None); await node.engine.lease(boottime_s()+60)
    print("fence off+on ms", (time.perf_counter()-t)/5*1e3)
