package tun

import (
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/vhost"
)

// ByVhost is a consumer that is vhost-net, with a virtqueue and a /dev/vhost-net for
// each reader, of a tap device with IFF_VNET_HDR.
func ByVhost(cfg vhost.Config) traffic.ConsumerConfig {
	return traffic.ConsumerConfig{
		HeaderBytes: vhost.HeaderBytes,
		Queue: func(tap int) (traffic.Queue, error) {
			q, err := vhost.Open(tap, cfg)
			if err != nil {
				return nil, err
			}
			return q, nil
		},
	}
}
