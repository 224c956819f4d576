package report

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/ringproof/ringproof/internal/contract"
)

// browser starts one, or skips the test if there is none.
func browser(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("not run: no Chromium at hand")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // which root has none of
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Skipf("not run: %s does not start: %v", path, err)
	}
	return ctx
}

// layout returns texts that lie on one another, as far as they can be seen, and how
// much wider than the window the page is.
const layout = `(() => {
	for (const d of document.querySelectorAll("details")) d.open = true;
	const faults = [], seen = [];
	const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
	if (wide > 0) faults.push("the page is " + wide + " px wider than the window");
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node; node = walker.nextNode();) {
		if (!node.data.trim()) continue;
		const range = document.createRange();
		range.selectNodeContents(node);
		for (const r of range.getClientRects()) {
			let box = {l: r.left, t: r.top, r: r.right, b: r.bottom};
			for (let e = node.parentElement; e; e = e.parentElement) {
				if (getComputedStyle(e).overflowX == "visible" || e == document.documentElement || e == document.body) continue;
				const c = e.getBoundingClientRect();
				box = {l: Math.max(box.l, c.left), t: Math.max(box.t, c.top), r: Math.min(box.r, c.right), b: Math.min(box.b, c.bottom)};
			}
			if (box.r - box.l > 3 && box.b - box.t > 3) seen.push({node, text: node.data.trim(), ...box});
		}
	}
	// What is read against what is behind it (WCAG 2: 4.5 to 1).
	const light = c => {
		const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
		return .2126 * r + .7152 * g + .0722 * b;
	};
	const color = s => s.match(/[\d.]+/g).map(Number);
	for (const {node, text} of seen) {
		const e = node.parentElement;
		if (e.closest("svg")) continue; // whose letters may lie on a band
		let behind = [255, 255, 255];
		for (let at = e; at; at = at.parentElement) {
			const c = color(getComputedStyle(at).backgroundColor);
			if (c.length < 4 || c[3] == 1) { behind = c.slice(0, 3); break; }
		}
		const a = light(color(getComputedStyle(e).color).slice(0, 3)), b = light(behind);
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (ratio < 4.5) faults.push(JSON.stringify(text) + " has a contrast of " + ratio.toFixed(1));
	}
	seen.sort((a, b) => a.t - b.t);
	for (let i = 0; i < seen.length; i++)
		for (let j = i + 1; j < seen.length && seen[j].t < seen[i].b - 4; j++) {
			const a = seen[i], b = seen[j];
			if (a.node != b.node && Math.min(a.r, b.r) - Math.max(a.l, b.l) > 3 && Math.min(a.b, b.b) - Math.max(a.t, b.t) > 4)
				faults.push(JSON.stringify(a.text) + " lies on " + JSON.stringify(b.text));
		}
	return faults;
})()`

// look opens a page in a window of that width, and returns what is wrong with it.
func look(t *testing.T, ctx context.Context, page []byte, width int64, scheme, media string) (faults []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, page, 0o644); err != nil {
		t.Fatal(err)
	}
	tab, cancel := chromedp.NewContext(ctx)
	defer cancel()
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		faults = append(faults, fmt.Sprintf(format, args...))
	}
	listening := chromedp.Listen(tab, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if url := e.Request.URL; url != "file://"+file && url != "data:," {
				say("it requests %s", url)
			}
		case *log.EventEntryAdded:
			say("the console says: %s", e.Entry.Text)
		case *runtime.EventConsoleAPICalled:
			say("a script writes to the console")
		case *runtime.EventExceptionThrown:
			say("a script fails: %s", e.ExceptionDetails.Text)
		}
	})
	if listening != nil {
		t.Fatal(listening)
	}
	overlaps, err := chromedp.Run(tab, func(ctx context.Context, target *chromedp.Target) (overlaps []string, err error) {
		if _, err = cdp.Call(ctx, target, network.Enable, network.EnableParams{}); err != nil {
			return nil, err
		}
		if _, err = cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Media: media, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}); err != nil {
			return nil, err
		}
		if _, err = chromedp.EmulateViewport(width, 900)(ctx, target); err != nil {
			return nil, err
		}
		if _, err = chromedp.Navigate("file://"+file)(ctx, target); err != nil {
			return nil, err
		}
		return chromedp.Evaluate[[]string](layout)(ctx, target)
	})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return append(faults, overlaps...)
}

// TestPage opens the page as its readers do: it is one file, without errors, and
// nothing lies on anything else, on a phone and on a desk, in light and in dark, and
// printed.
func TestPage(t *testing.T) {
	ctx := browser(t)
	full := sample()
	full.Dir = t.TempDir()
	vm := filepath.Join(full.Dir, "vm-1")
	if err := os.Mkdir(vm, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"console.log": strings.Repeat("a line that is quite long, as lines of the console are at times <b>\x00\xff\n", 2000), "command.sh": "exec qemu"} {
		if err := os.WriteFile(filepath.Join(vm, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	long := sample()
	long.Dir = "/absent"
	long.Kernel = strings.Repeat("/a_directory_with_a_long_name", 9)
	long.Verdicts[0].Books.Drops = map[string]uint64{"NOT_SPECIFIED@__ptr_ring_swap_queue": 3, "QDISC_BURST_DROP@__dev_queue_xmit": 123456, "FULL_RING@tun_net_xmit": 1}
	long.Verdicts[0].Books.Refused, long.Verdicts[0].Books.Offered = 0, 123999
	long.Cost = strings.Repeat("  a table of 72 columns, as a commit message has it                      1\n", 40)
	long.Measured = measured("the-base-of-a-series-of-patches", "the-first-patch-of-the-series", "the-second-patch-of-the-series", "the-third-patch-of-the-series", "v4")
	older := sample()
	older.Measured = nil
	for name, r := range map[string]*Run{"full": full, "long": long, "older": older, "empty": {}} {
		page, err := r.Format("html")
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > 512<<10 {
			t.Errorf("%s: the page has %d bytes", name, len(page))
		}
		for _, view := range []struct {
			width         int64
			scheme, media string
		}{{360, "light", "screen"}, {820, "dark", "screen"}, {1400, "light", "screen"}, {1400, "dark", "screen"}, {720, "light", "print"}} {
			for _, fault := range look(t, ctx, page, view.width, view.scheme, view.media) {
				t.Errorf("%s, %d px, %s, %s: %s", name, view.width, view.scheme, view.media, fault)
			}
		}
	}
	for says, body := range map[string]string{
		"it requests http":            `<img src="http://192.0.2.1/x.png">`,
		"the console":                 `<script>console.error("x")</script>`,
		"a script fails":              `<script>nothing()</script>`,
		"lies on":                     `<p style="position:absolute;top:50px">one text</p><p style="position:absolute;top:55px">another text</p>`,
		"has a contrast of":           `<p style="color:#999">x</p>`,
		"px wider than the window":    `<p style="width:5000px">x</p>`,
		"Content Security Policy":     `<meta http-equiv="Content-Security-Policy" content="default-src 'none'"><p style="color:red">x</p>`,
		"which nobody finds fault in": "",
	} {
		faults := strings.Join(look(t, ctx, []byte("<!DOCTYPE html><body>"+body), 360, "light", "screen"), "; ")
		if body == "" && faults != "" || body != "" && !strings.Contains(faults, says) {
			t.Errorf("a page with %q: %q, want %q", body, faults, says)
		}
	}
}

// TestPageSays: the page has what the text has, and takes nothing that the kernel
// says for markup.
func TestPageSays(t *testing.T) {
	r := sample()
	r.Verdicts[0].Why = `<script>alert("x")</script>`
	page, err := r.Format("html")
	if err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{
		"<title>ringproof: 2 promises broken, 1 promise undecided, 1 promise not run, 2 faults</title>",
		"1.</a> no-tail-drop is broken, seen in 2 settings",
		`<span class="line held">   13  	if (packet &amp;&amp; room &lt; half) /* &lt;b&gt;not bold&lt;/b&gt; */`,
		"The nearest schedule that kept it: tun_ring_consume&#43;0x3e",
		`<tr class="differs"><td class="at">0.050 ms</td>`,
		`<td class="stopped">stopped</td>`,
		"&lt;script&gt;alert(",
		"fault of the set-up: the disk is full",
		"Unknown path: packets were freed by BURST@f: counted by nothing",
		`<pre tabindex="0">a table</pre>`,
		"<b>TCP throughput by number of streams</b>",
		"<td>1.01 (0.99 – 1.04)</td>",
	} {
		if !strings.Contains(string(page), says) {
			t.Errorf("the page does not say %q", says)
		}
	}
	if strings.Contains(string(page), "<script") || strings.Contains(string(page), "http://") || strings.Contains(string(page), "https://") {
		t.Error("the page has a script, or an address")
	}
	if d := lanes(r.Findings[0].TimeLine, -1); len(d.Who) != 2 || d.Who[0] != contract.Producer || d.Who[1] != contract.Consumer {
		t.Errorf("lanes of %v", d.Who)
	}
	if flow(nil) != "" || flow(&contract.Books{}) != "" {
		t.Error("no packets flow")
	}
}
