package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

const (
	tmpfsMagic = 0x01021994
	syncCount  = 50
)

// describe prints what the figures depend on.
func describe(out io.Writer, dir string, opt options) error {
	each, err := syncTime(dir)
	if err != nil {
		return fmt.Errorf("look at the disk: %w", err)
	}
	_, _ = fmt.Fprintf(out, "%d processors; 4 KiB written and synced in %s: %s (median of %d)\n", runtime.NumCPU(), filepath.Dir(dir), milliseconds(each), syncCount)
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err == nil && fs.Type == tmpfsMagic {
		_, _ = fmt.Fprintf(out, "note: %s is in memory, where nothing is synced: give -dir\n", filepath.Dir(dir))
	}
	_, err = fmt.Fprintf(out, "medians of %d rounds of %v each; in brackets bare raft in the same rounds, and the median of the rounds' ratios to it\n\n", opt.rounds, opt.duration)
	return err
}

// syncTime is how long one small synced write takes.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4096)
	var took []time.Duration
	for range syncCount {
		begin := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begin))
	}
	return median(took, func(d time.Duration) time.Duration { return d }), nil
}

// figure is one property of a sample that is printed.
type figure struct {
	name   func(workload) string
	of     func(sample) float64
	format string
}

var figures = []figure{
	{func(w workload) string { return string(w) + "/s" }, sample.rate, "%.0f"},
	{func(w workload) string { return "p50 ms of " + string(w) }, func(s sample) float64 { return s.P50.Seconds() * 1e3 }, "%.2f"},
	{func(w workload) string { return "p99 ms of " + string(w) }, func(s sample) float64 { return s.P99.Seconds() * 1e3 }, "%.2f"},
	{func(w workload) string { return "CPU s of the cluster per 1,000 " + string(w) }, func(s sample) float64 { return perThousand(s.CPU, s.Ops) }, "%.2f"},
	{func(w workload) string { return "CPU s of applications per 1,000 " + string(w) }, func(s sample) float64 { return perThousand(s.Clients, s.Ops) }, "%.2f"},
}

func perThousand(d time.Duration, ops int) float64 { return d.Seconds() * 1000 / float64(max(ops, 1)) }

// print writes one line a figure.
func (l resultList) print(out io.Writer) {
	for _, f := range figures {
		for _, r := range l {
			for i, p := range r.places {
				_, _ = fmt.Fprintln(out, r.line(f, p, r.ours[i]))
			}
			if bare := median(r.bare, f.of); len(r.places) == 0 && bare != 0 {
				_, _ = fmt.Fprintf(out, "%s, %s, bare: "+f.format+"\n", f.name(r.workload), r.who(), bare)
			}
		}
		_, _ = fmt.Fprintln(out)
	}
}

func (r *result) line(f figure, p place, samples []sample) string {
	ours, bare := median(samples, f.of), median(r.bare, f.of)
	line := fmt.Sprintf("%s, %s, %s: "+f.format, f.name(r.workload), r.who(), p, ours)
	if bare == 0 {
		return line // its proposers are in the leader's process
	}
	ratios := make([]float64, len(samples))
	for i := range samples {
		ratios[i] = f.of(samples[i]) / f.of(r.bare[i])
	}
	return line + fmt.Sprintf(" (bare "+f.format+", %.0f%%)", bare, 100*median(ratios, func(x float64) float64 { return x }))
}

// median of what of says about each; the lower one of two.
func median[S any, T cmp.Ordered](list []S, of func(S) T) T {
	var values []T
	for _, x := range list {
		values = append(values, of(x))
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1e3) }
