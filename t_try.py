import sys, random, tempfile, re, collections
sys.path[:0]=['tests','.','scripts']
from pathlib import Path
import fd_world, decoding, warnings
from fd_world import *
def names(row, ev):
    n={0:[0],3:[0],32:[0],33:[0,1],292:[0,1],72:[0],81:[0],257:[0],436:[0]}.get(ev.nr,[])
    out=[]
    for k in n:
        t=row[f'arg{k}_repr']
        m=re.search(r'\((.*)\)$',t)
        out.append(None if m is None or m[1]=='[???]' else m[1])
    return out
def check(seed, overlap=True, cuts=(), lost=frozenset(), steps=3000, **kw):
    w=World(random.Random(seed), overlap=overlap, **kw); evs=w.run(steps)
    d=Path(tempfile.mkdtemp())
    cuts=[c for c in cuts if c<len(evs)]
    write(evs,d,cuts,lost)
    rows={r['seq']:r for r in decoding.rows_of(d)}
    st=collections.Counter(); got={}
    for s,ev in enumerate(evs):
        if s in lost or s not in rows or ev.flags&CHILD: continue
        nn=names(rows[s],ev)
        got[s]=nn
        for g,t in zip(nn,ev.truth):
            if g is None:
                st['closed' if t is None else 'initial' if t.startswith('/initial') or t.startswith('/first') else 'unknown']+=1
            elif g==t: st['right']+=1
            else:
                st['wrong']+=1
                if st['wrong']<4: print('WRONG',seed,s,ev,g,t)
    return st,got,evs
if __name__=='__main__':
    for seed in range(int(sys.argv[1]),int(sys.argv[2])):
        st,got,evs=check(seed,overlap=seed%2==0)
        print(seed,len(evs),dict(st))
        st2,got2,_=check(seed,overlap=seed%2==0,cuts=[50,100,130,400,700])
        d=[s for s in got if got[s]!=got2.get(s)]
        if d: print('DIFF',len(d),d[:3],[(evs[s],got[s],got2.get(s)) for s in d[:2]])
