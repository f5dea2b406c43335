from t_try import *
import collections
tot=collections.Counter(); bad=[]
import io,contextlib
for seed in range(int(sys.argv[1]),int(sys.argv[2])):
    with contextlib.redirect_stdout(io.StringIO()):
        st,got,evs=check(seed,overlap=seed%2==0)
        st2,got2,_=check(seed,overlap=seed%2==0,cuts=[50,100,130,400,700])
    tot+=st
    d=[s for s in got if got[s]!=got2.get(s)]
    if st['wrong'] or d: bad.append((seed,st['wrong'],d[:3]))
print(dict(tot)); print(bad)
