package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const tinyKconfig = `
config NET
	bool "Networking"

if NET
menu "Devices"
	depends on NETDEVICES

config TUN
	tristate "tun"
	depends on INET && \
		!NOTUN # why
	select CRC32
	help
	  depends on nothing that is said here

endmenu
endif

config CRC32
	bool
	select NOWHERE
`

func TestVerifyNamesWhatKconfigChanged(t *testing.T) {
	src := t.TempDir()
	files{
		"Kconfig":             tinyKconfig,
		"arch/arm64/Kconfig":  "config ONLY_ARM64\n\tbool\n",
		"arch/x86/Kconfig":    "config ONLY_X86\n\tbool\n",
		"Documentation/Kconf": "",
	}.write(t, src)
	got := map[string]string{"NET": "y", "TUN": "n", "INET": "n", "NOTUN": "y", "NETDEVICES": "y", "CRC32": "y", "SIZE": "64", "NAME": `"a b"`}

	for name, tc := range map[string]struct {
		fragment string
		lacks    []string // parts of each sentence, separated by "|"
		problem  []string // parts of the message; nil for none
	}{
		"as asked":        {"CONFIG_NET=y\n# CONFIG_TUN is not set\n# CONFIG_ABSENT is not set\nCONFIG_SIZE=64\nCONFIG_NAME=\"a b\"\n", nil, nil},
		"dropped":         {"# x\nCONFIG_TUN=y\n", nil, []string{"test:2", "CONFIG_TUN=y", "dropped", "INET is not set", "NOTUN is set"}},
		"forced":          {"CONFIG_TUN=m\n# CONFIG_CRC32 is not set\n", nil, []string{"CONFIG_CRC32 is not set", "made it y"}},
		"wrong value":     {"CONFIG_SIZE=128\n", nil, []string{"CONFIG_SIZE=128", "no such option"}},
		"unknown":         {"CONFIG_FLUX=y\n", nil, []string{"CONFIG_FLUX=y", "no such option", "# Optional: "}},
		"other arch":      {"CONFIG_ONLY_ARM64=y\n", nil, []string{"no such option"}},
		"only selected":   {"CONFIG_NOWHERE=y\n", nil, []string{"no such option"}},
		"the last counts": {"CONFIG_TUN=y\n# CONFIG_TUN is not set\n", nil, nil},

		"optional":         {"# Optional: no comfort.\nCONFIG_FLUX=y\n", []string{"CONFIG_FLUX=y|test:2|no such option|no comfort."}, nil},
		"optional dropped": {"# Optional: x\nCONFIG_TUN=y\n", []string{"CONFIG_TUN=y|dropped|INET is not set"}, nil},
		"optional forced":  {"# Optional: x\n# CONFIG_CRC32 is not set\n", []string{"CONFIG_CRC32 is not set|made it y"}, nil},
		"optional is set":  {"# Optional: x\nCONFIG_NET=y\n", nil, nil},
		"long comment":     {"# Optional: no comfort,\n# and more.\nCONFIG_FLUX=y\n", []string{"no comfort, and more."}, nil},
		"one sentence":     {"# Optional: x\nCONFIG_FLUX=y\nCONFIG_NET=y\nCONFIG_FLOW=y\n", []string{"CONFIG_FLUX=y|CONFIG_FLOW=y|x"}, nil},
		"two sentences":    {"# Optional: x\nCONFIG_FLUX=y\n# Optional: z\nCONFIG_FLOW=y\n", []string{"CONFIG_FLUX=y|x", "CONFIG_FLOW=y|z"}, nil},
		"new comment":      {"# Optional: no comfort.\nCONFIG_FLUX=y\n# Needed.\nCONFIG_FLOW=y\n", nil, []string{"CONFIG_FLOW=y"}},
		"optional ends":    {"# Optional: no comfort.\nCONFIG_FLUX=y\n\nCONFIG_FLOW=y\n", nil, []string{"CONFIG_FLOW=y"}},
		"in a comment":     {"# What follows is\n# Optional: x\nCONFIG_FLUX=y\n", []string{"CONFIG_FLUX=y|x"}, nil},
		"an empty comment": {"# Optional: x\n#\n# CONFIG_CRC32 is not set\n", []string{"CONFIG_CRC32|x"}, nil},
		"overridden":       {"CONFIG_FLUX=y\n# Optional: x\nCONFIG_FLUX=y\n", []string{"CONFIG_FLUX=y|test:3"}, nil},

		"one of, the first":  {"# One of: networks\nCONFIG_NET=y\nCONFIG_FLUX=y\n", nil, nil},
		"one of, the second": {"# One of: networks\nCONFIG_FLUX=y\nCONFIG_NET=y\n", nil, nil},
		"one of, none":       {"# One of: networks\nCONFIG_FLUX=y\nCONFIG_TUN=y\n", nil, []string{"one of these", "CONFIG_FLUX=y", "no such option", "CONFIG_TUN=y", "dropped", "networks"}},
		"optional, one of":   {"# Optional, one of: no net\nCONFIG_FLUX=y\nCONFIG_NET=y\n", nil, nil},
		"optional, none":     {"# Optional, one of: no net\nCONFIG_FLUX=y\nCONFIG_TUN=y\n", []string{"CONFIG_FLUX=y|CONFIG_TUN=y|no net"}, nil},
	} {
		options, err := parseFragment("test", tc.fragment)
		if err != nil {
			t.Fatal(err)
		}
		lacks, err := verify(asked([]fragment{{options: options}}), got, src)
		if len(lacks) != len(tc.lacks) {
			t.Errorf("%s: lacks %q, want %q", name, lacks, tc.lacks)
		}
		for i := range min(len(lacks), len(tc.lacks)) {
			for part := range strings.SplitSeq(tc.lacks[i], "|") {
				if !strings.Contains(lacks[i], part) {
					t.Errorf("%s: %q lacks %q", name, lacks[i], part)
				}
			}
		}
		var ce *ConfigError
		if (tc.problem != nil) != errors.As(err, &ce) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, part := range tc.problem {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v; lacks %q", name, err, part)
			}
		}
	}
}

func TestVerifyNamesWhoSelects(t *testing.T) {
	src := t.TempDir()
	files{"Kconfig": tinyKconfig}.write(t, src)
	options, err := parseFragment("test", "# CONFIG_CRC32 is not set\n")
	if err != nil {
		t.Fatal(err)
	}
	_, err = verify(options, map[string]string{"TUN": "y", "CRC32": "y"}, src)
	if err == nil || !strings.Contains(err.Error(), "selected by TUN") {
		t.Errorf("%v does not name TUN", err)
	}
}

func TestOurFragmentsAreWellFormed(t *testing.T) {
	for _, name := range Fragments() {
		frags, err := readFragments([]string{name})
		if err != nil {
			t.Error(err)
			continue
		}
		f := frags[len(frags)-1]
		if f.name != name || len(f.options) == 0 {
			t.Errorf("%s: read %s with %d options", name, f.name, len(f.options))
		}
		if !strings.HasPrefix(f.text, "# "+name+": ") {
			t.Errorf("%s does not begin by saying what it is for", name)
		}
		if frags[0].name != "base" {
			t.Errorf("%s: base does not come first", name)
		}
		for _, o := range f.options {
			if o.group != nil && o.group.text == "" {
				t.Errorf("%s:%d: the comment above does not say what it costs to lack %s", name, o.line, o)
			}
		}
	}
}

func TestFragmentThatIsNoneIsExplained(t *testing.T) {
	file := filepath.Join(t.TempDir(), "broken.config")
	if err := os.WriteFile(file, []byte("# x\nCONFIG_TUN\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"bsae":          "base",
		"./none.config": "no such file",
		file:            ":2",
	} {
		_, err := readFragments([]string{name})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
	if _, err := readFragments([]string{"inject", "base"}); err == nil {
		t.Error("base in second place was accepted")
	}
}
