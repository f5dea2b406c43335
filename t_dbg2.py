import sys
from t_try import *
from process.prepare import prepare
from process.pool import Workers
import process.fd_state as S
seed=int(sys.argv[1]); lo,hi=int(sys.argv[2]),int(sys.argv[3]); who=[task(*map(int,a.split('.'))) for a in sys.argv[4:]]
keep={}
orig=S.join_all
def ja(e,s):
    w=orig(e,s); keep['w']=w; return w
S.join_all=ja
import io,contextlib
with contextlib.redirect_stdout(io.StringIO()): check(seed,overlap=seed%2==0)
w=keep['w']
for h in who:
    m=(w.files.holders==h)
    print(h>>32,h&0xffffffff,[(t,n) for t,n in zip(w.files.times[m].tolist(),w.files.nodes[m].tolist()) if lo<=t<=hi])
nn=set(w.files.nodes[np.isin(w.files.holders,who)].tolist()) if (np:=__import__('numpy')) else 0
for n in sorted(nn):
    if n>=0 and lo<=w.nodes['since'][n]<=hi: print(n,dict(zip(w.nodes.dtype.names,w.nodes[n].tolist())))
m=[(i) for i in range(len(w.changes)) if lo<=w.changes['t1'][i]<=hi and w.changes['holder'][i] in who]
for i in m: print(w.node[i],dict(zip(w.changes.dtype.names,w.changes[i].tolist())))
