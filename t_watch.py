import sys
from t_try import *
seed,pid,tid,fd=map(int,sys.argv[1:5])
w=World(random.Random(seed), overlap=seed%2==0)
inv={v:k for k,v in NR.items()}
for p in (1,2):
    w.tasks.append(Task(task(p), {f: Open(f"/initial/{p}/{f}") for f in range(3)}, ["/first"]))
last='?'
orig=w.step
for i in range(3000):
    cand=[o for o in w.tasks if o.alive]
    calls={o.number:(o.call.name,o.call.args,o.call.began,o.call.done) if o.call else None for o in cand}
    w.step()
    t=[o for o in w.tasks if o.alive and o.number==task(pid,tid)]
    v=t[0].table.get(fd) if t else 'dead'
    if v!=last:
        changed=[(n>>32,n&0xffffffff,c) for n,c in calls.items() for o in w.tasks if o.number==n and ((o.call.name,o.call.args,o.call.began,o.call.done) if o.call else None)!=c]
        sh=[(o.number>>32,o.number&0xffffffff) for o in w.tasks if t and o.alive and o.table is t[0].table]
        print(len(w.events),w.clock,v,changed,sh); last=v
