package report

import "fmt"

// measured is what was measured of some kernels, the first of which is the base. The
// last one is the run's own, and is measured with IFF_BACKPRESSURE as well.
func measured(kernels ...string) *Measured {
	m := new(Measured)
	for i, k := range kernels {
		v := Variant{Name: k, Own: i == len(kernels)-1}
		if i > 0 {
			v.Base = kernels[0]
		}
		if m.Variants = append(m.Variants, v); v.Own {
			v.Name, v.Backpressure = k+"+flag", true
			m.Variants = append(m.Variants, v)
		}
	}
	for i, v := range m.Variants {
		scale := 1 + float64(i)/100
		add := func(ruler, workload, unit string, center, limit float64) {
			lo, hi := center*0.98, center*1.03
			x := Value{Variant: v.Name, Workload: workload, Ruler: ruler, Unit: unit, Center: center, Lo: &lo, Hi: &hi, N: 6}
			if v.Base != "" {
				x.Limit = limit
			}
			m.Values = append(m.Values, x)
		}
		for _, n := range []int{1, 4, 16} {
			workload := fmt.Sprintf("TCP/via=tap/streams=%d/txqlen=1000/ip=4/delay=0s/qdisc=fq_codel", n)
			if v.Backpressure && n == 4 {
				m.Values = append(m.Values, Value{Variant: v.Name, Workload: workload, Ruler: "time", Lacks: "failed: iperf3 has not ended within 30s"})
				continue
			}
			add("time", workload, "bit/s", 1e6*float64(n)*scale, 0.9)
		}
		for _, qdisc := range []string{"fq_codel", "pfifo_fast"} {
			add("time", "Latency/qdisc="+qdisc+"/txqlen=500", "p50-us", 100*scale, 0)
			add("time", "Latency/qdisc="+qdisc+"/txqlen=500", "p99-us", 20000*scale, 1)
			add("time", "Latency/qdisc="+qdisc+"/txqlen=500", "max-us", 30000*scale, 0)
			add("time", "Latency/qdisc="+qdisc+"/txqlen=500", "lost", float64(i)/10, 0)
		}
		for _, threads := range []int{1, 2} {
			workload := fmt.Sprintf("Pktgen/threads=%d/txqs=1/via=tap/start_xmit", threads)
			add("time", workload, "offered-pps", 40000, 0)
			add("time", workload, "rx-pps", float64(10000*min(i+1, 4)), 0.95)
			add("time", workload, "lost-pps", 40000-float64(10000*min(i+1, 4)), 0)
		}
		for at, path := range []string{"via=tap/qdisc=pfifo_fast/free", "via=tap/qdisc=fq_codel/full"} {
			x := 1000 + float64(10*i)
			if at == 1 && i > 0 {
				x = 400
			}
			add("instructions", "Path/"+path, "instr/pkt", x, 1.02)
			add("instructions", "Path/"+path, "locked/pkt", 16+float64(i), 1.1)
		}
	}
	return m
}
