package run

import (
	"os"
	"path/filepath"
	"testing"
)

func TestModulesOf(t *testing.T) {
	top := t.TempDir()
	for _, file := range []string{
		"package/boot/vmlinuz-6.12.0", "package/lib/modules/6.12.0/modules.order",
		"merged/boot/vmlinuz-6.12.0", "merged/usr/lib/modules/6.12.0/modules.order",
		"arch/usr/lib/modules/6.12.0/vmlinuz",
		"tree/arch/x86/boot/bzImage", "tree/modules.order",
		"tree64/arch/arm64/boot/Image", "tree64/modules.order",
		"monolithic/arch/x86/boot/bzImage", "bzImage",
	} {
		path := filepath.Join(top, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(top, "monolithic/modules.order"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("package/boot/vmlinuz-6.12.0", filepath.Join(top, "vmlinuz")); err != nil {
		t.Fatal(err)
	}
	for kernel, want := range map[string]string{
		"package/boot/vmlinuz-6.12.0":         "package/lib/modules/6.12.0",
		"vmlinuz":                             "package/lib/modules/6.12.0",
		"merged/boot/vmlinuz-6.12.0":          "merged/usr/lib/modules/6.12.0",
		"arch/usr/lib/modules/6.12.0/vmlinuz": "arch/usr/lib/modules/6.12.0",
		"tree/arch/x86/boot/bzImage":          "tree",
		"tree64/arch/arm64/boot/Image":        "tree64",
		"monolithic/arch/x86/boot/bzImage":    "",
		"bzImage":                             "",
	} {
		if want != "" {
			want = filepath.Join(top, want)
		}
		if got := modulesOf(filepath.Join(top, kernel), "6.12.0"); got != want {
			t.Errorf("modules of %s: %q, want %q", kernel, got, want)
		}
	}
}
