import statistics, time
from tests import samples
def test_measure(driver, boot, image, engine, nic):
    given = image()
    res = {}
    def timed(key, f):
        t=time.monotonic(); r=f(); res.setdefault(key,[]).append(time.monotonic()-t); return r
    servers={}
    for level in ("user","shared"):
        servers[level]=boot(given, [nic(samples.subnet("192.0.2.0/24", "192.0.2.%d"%(9 if level=="user" else 8)))], flavor=samples.flavor(extra_specs={"docker:isolation":level}))
    n=0
    for i in range(21):
        for level in ("user","shared"):
            n+=1
            fl=samples.flavor(extra_specs={"docker:isolation":level})
            s=timed((level,"boot"), lambda: boot(given, [nic(samples.subnet("192.0.2.0/24", f"192.0.2.{20+n}"))], flavor=fl))
            driver.destroy(None, s.instance, s.network_info)
            s=servers[level]
            driver.power_off(s.instance)
            timed((level,"power_on"), lambda: driver.power_on(None, s.instance, s.network_info))
            engine.client.stop_container(s.name, 0)
            timed((level,"docker start"), lambda: engine.client.start_container(s.name))
    for k,v in sorted(res.items(), key=lambda x:x[0][1]): print(k, "median %.1f ms min %.1f"%(statistics.median(v[1:])*1000, min(v)*1000))
    for what in ("boot","power_on","docker start"):
        print(what, "ratio %.3f"%(statistics.median(res["user",what][1:])/statistics.median(res["shared",what][1:])))
