// Package bench has the workloads whose cost is measured. They run inside the
// VM; internal/host/bench boots it and compares.
//
// Each workload is a test that reports cost.Samples: see sample. To add one, write
// a test here, and say in internal/host/bench which of its units are judged.
package bench
