package tun

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// steering sends all packets of a device to one txq.
type steering struct {
	Program *ebpf.Program  `ebpf:"steer"`
	Txq     *ebpf.Variable `ebpf:"txq"`
}

// steer sends all packets to one txq from now on.
func (d *device) steer(txq uint32) error {
	if d.steering.Program == nil {
		var loaded steering
		if err := loadFiltersObjects(&loaded, nil); err != nil {
			return fmt.Errorf("load a program that steers: %w", err)
		}
		if err := d.SetSteering(loaded.Program.FD()); err != nil {
			return errors.Join(err, loaded.Program.Close())
		}
		d.steering = loaded
	}
	return d.steering.Txq.Set(txq)
}

// Trim attaches a filter (TUNSETFILTEREBPF).
func (d *device) Trim(bytes int) error {
	spec, err := loadFilters()
	if err != nil {
		return err
	}
	if err := spec.Variables[filtersVarCut].Set(uint32(bytes)); err != nil {
		return err
	}
	var filter struct {
		Trim *ebpf.Program `ebpf:"trim"`
	}
	if err := spec.LoadAndAssign(&filter, nil); err != nil {
		return fmt.Errorf("load a filter that trims: %w", err)
	}
	defer filter.Trim.Close()
	return d.SetFilter(filter.Trim.FD())
}
