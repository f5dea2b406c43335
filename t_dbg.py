import sys; sys.argv=sys.argv
from t_try import *
seed,upto,tid=int(sys.argv[1]),int(sys.argv[2]),int(sys.argv[3])
st,got,evs=check(seed,overlap=seed%2==0)
inv={v:k for k,v in NR.items()}
n=int(sys.argv[4]) if len(sys.argv)>4 else 40
sel=[(s,e) for s,e in enumerate(evs) if s<=upto and ((e.who>>32)==tid or e.ret==tid or (e.flags&CHILD and e.ret>>32==tid) )]
for s,e in sel[-n:]:
    print(s,f'{e.who>>32}.{e.who&0xffffffff}',inv[e.nr],[a if a<1<<60 else a-(1<<64) for a in e.args],'ret',e.ret,'t',e.time,e.time+e.duration if e.duration<1<<60 else '?','fl',e.flags,e.strings,e.truth,got.get(s))
