package kernel

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// change is a diff of one line of a file of tinyKernel.
func change(path string, line int, from, to string) string {
	word, _, _ := strings.Cut(tinyKernel[path], " ")
	at := func(n int) string { return fmt.Sprintf("%s line %d", word, n) }
	return fmt.Sprintf("--- a/%s\n+++ b/%s\n@@ -%d,3 +%d,3 @@\n %s\n-%s\n+%s\n %s\n", path, path, line-1, line-1, at(line-1), from, to, at(line+1))
}

const tun, tap = "drivers/net/tun.c", "drivers/net/tap.c"

// first is the change of most series below, then is one on top of it.
var (
	first = change(tun, 8, "tun line 8", "first")
	then  = change(tun, 8, "first", "second")
)

// wanted is tun.c with line 8 replaced.
func wanted(text string) files { return files{tun: edit(tun, 8, text)} }

// letter is a mail in an mbox. fields are further lines of its header.
func letter(subject, body string, fields ...string) string {
	head := append([]string{"From: Nemo <nemo@localhost>", "Date: Tue, 4 Nov 2025 09:00:00 +0100", "Subject: " + subject}, fields...)
	return "From 1 Mon Sep 17 00:00:00 2001\n" + strings.Join(head, "\n") + "\n\n" + body + "\n"
}

// post is a mail with a patch.
func post(subject, diff string, fields ...string) string {
	return letter(subject, "Why.\n\nSigned-off-by: Nemo <nemo@localhost>\n---\n file | 2 +-\n\n"+diff+"-- \n2.47.0\n", fields...)
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func prefixed(diff, a, b string) string {
	diff = strings.ReplaceAll(diff, "--- a/", "--- "+a)
	return strings.ReplaceAll(diff, "+++ b/", "+++ "+b)
}

func encoded(text string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

func inBase64(text string) string {
	all := base64.StdEncoding.EncodeToString([]byte(text))
	var b strings.Builder
	for chunk := range slices.Chunk([]byte(all), 76) {
		b.Write(append(chunk, '\n'))
	}
	return b.String()
}

func answers(id string) string { return "In-Reply-To: <" + id + "@localhost>" }

var qp = []string{"MIME-Version: 1.0", "Content-Type: text/plain; charset=UTF-8", "Content-Transfer-Encoding: quoted-printable"}

// forms are series as people have them: files of a directory, of which the
// first by name, or the directory where there are several, is the series. All
// apply to tinyKernel.
var forms = map[string]struct {
	is      files
	version int
	want    files
	says    string // on progress
}{
	"encoded cover letter": {
		is:   files{"m": letter("=?utf-8?b?W1BBVENIIG5ldC1uZXh0IDAvMV0gdHVuOiDCq3N0b3DCuw==?=", "Words.") + post("[PATCH net-next 1/1] tun: first", first)},
		want: wanted("first"), says: "«stop»",
	},
	"tags behind the number": {
		is: files{"m": letter("[PATCH 0/2 net-next v3] tun: both", "Words.") + post("[PATCH 1/2 net-next v3] tun: first", first) +
			post("[PATCH 2/2 net-next v3] tun: second", then)},
		want: wanted("second"), says: "[PATCH 0/2 net-next v3]",
	},
	"version before PATCH":      {is: files{"m": letter("[v2 PATCH 0/1] t", "W.") + post("[v2 PATCH 1/1] tun: first", first)}, want: wanted("first")},
	"version in the word PATCH": {is: files{"m": letter("[PATCHv2 0/1] t", "W.") + post("[PATCHv2 1/1] tun: first", first)}, want: wanted("first")},
	"tags apart":                {is: files{"m": letter("[RFC][PATCH][0/1] t", "W.") + post("[RFC] [PATCH] [1/1] tun: first", first)}, want: wanted("first")},
	"numbers of a patchbomb":    {is: files{"m": letter("[PATCH 0 of 1] t", "W.") + post("[PATCH 1 of 1] tun: first", first)}, want: wanted("first")},
	"a release in the tag":      {is: files{"m": post("[PATCH 6.12 v6.12.30 1/2] tun: first", first) + post("[PATCH 6.12 v6.12.30 2/2] tun: second", then)}, want: wanted("second")},
	"out of order":              {is: files{"m": post("[PATCH 2/2] tun: second", then) + post("[PATCH 1/2] tun: first", first)}, want: wanted("second"), says: "order of their numbers"},
	"ten and more":              {is: files{"m": tenAndMore()}, want: wanted("step 11")},
	"twice": {
		is: files{"m": post("[PATCH 1/2] tun: first", first, "Message-ID: <1@localhost>") + post("[PATCH 1/2] tun: first", first, "Message-ID: <1@localhost>") +
			post("[PATCH 2/2] tun: second", then)},
		want: wanted("second"), says: "twice",
	},
	"sent again": {
		is:   files{"m": post("[PATCH 1/2] tun: first", first) + post("[PATCH 2/2] tun: second", then) + post("[PATCH RESEND 1/2] tun: first", first)},
		want: wanted("second"), says: "twice",
	},
	"two series one after the other": {is: files{"m": post("[PATCH 1/1] tun: first", first) + post("[PATCH 1/1] tun: second", then)}, want: wanted("second")},
	"one of a series":                {is: files{"m": post("[PATCH 3/8] tun: first", first)}, want: wanted("first"), says: "taken alone"},
	"no tags":                        {is: files{"m": post("tun: first", first) + post("tun: second", then)}, want: wanted("second")},
	"tags without numbers":           {is: files{"m": post("[PATCH] tun: first", first) + post("[PATCH] tun: second", then, answers("1"))}, want: wanted("second")},
	"another version": {
		is: files{"m": letter("[PATCH 0/1] tun: stop", "W.") + post("[PATCH 1/1] tun: a", change(tun, 8, "tun line 8", "old")) +
			letter("[PATCH v2 0/1] tun: stop", "W.", answers("1")) + post("[PATCH v2 1/1] tun: a", first, answers("1"))},
		want: wanted("first"), says: "version 2 is taken",
	},
	"the version asked for": {
		is:      files{"m": post("[PATCH v2 1/1] tun: a", first) + post("[PATCH 1/1] tun: a", change(tun, 8, "tun line 8", "old"))},
		version: 1, want: wanted("old"), says: "version 1 is taken",
	},
	"versions of one patch": {
		is:   files{"m": post("[PATCH] tun: a", change(tun, 8, "tun line 8", "old")) + post("[PATCH net v10] tun: a", first) + post("[PATCH v9] tun: a", then)},
		want: wanted("first"), says: "version 9",
	},
	"replies": {
		is: files{"m": post("[PATCH 1/1] tun: first", first) + letter("SV: [PATCH 1/1] tun: first", "Fint.") + letter("=?utf-8?q?Re=3A_=5BPATCH_1/1=5D_tun=3A_first?=", "Fine.") +
			letter("[netbot] Re: [PATCH 1/1] tun: first", "Applied.") + letter("RE: AW: [EXT] Re[2]: [PATCH 1/1] tun: first", "Ja.") + letter("Свар: [PATCH 1/1] tun: first", "Да.") +
			letter("Re: [PATCH 1/1] tun: first", "> "+strings.ReplaceAll(first, "\n", "\n> ")+"\nWhy?") + letter("答复：[PATCH 1/1] tun: first", "好") + letter("tun build is broken", "See there.", answers("1"))},
		want: wanted("first"), says: "build is broken",
	},
	"words before the series, and other patches around it": {
		is: files{"m": letter("tun is slow", "Words.") + letter("tun is fast", "Words.", answers("1")) + post("tap: before", change(tap, 8, "tap line 8", "before")) +
			letter("[PATCH 0/1] tun: stop", "W.") + post("[PATCH 1/1] tun: first", first) + post("tap: after", change(tap, 8, "before", "after"))},
		want: files{tun: edit(tun, 8, "first"), tap: edit(tap, 8, "after")}, says: "tun is fast",
	},
	"a reply with a diff": {
		is:   files{"m": post("[PATCH 1/1] tun: first", first) + letter("Re: [PATCH 1/1] tun: first", "Rather:\n\n"+then)},
		want: wanted("first"), says: "carries a diff",
	},
	"a bot with the diff": {
		is:   files{"m": post("[PATCH] tun: first", first) + letter("Patch \"tun: first\" has been added to the tree", "As here:\n\n"+first, answers("1"))},
		want: wanted("first"), says: "carries a diff",
	},
	"a robot with a patch": {
		is:   files{"m": post("[PATCH] tun: first", first) + strings.ReplaceAll(post("[PATCH] tun: fix semicolon", then, answers("1")), "Nemo <nemo@", "Robot <robot@")},
		want: wanted("first"), says: "fix semicolon",
	},
	"a patch that became two": {
		is:   files{"m": post("[PATCH v3] tun: first", change(tun, 8, "tun line 8", "old")) + post("[PATCH v4 1/2] tun: first", first, answers("1")) + post("[PATCH v4 2/2] tun: second", then, answers("1"))},
		want: wanted("second"), says: "version 4 is taken",
	},
	"patches without numbers that got some": {
		is: files{"m": post("[PATCH] tun: first", change(tun, 8, "tun line 8", "old")) + post("[PATCH] tap: dropped", change(tap, 8, "tap line 8", "x")) +
			post("[PATCH v2 1/2] tun: first", first) + post("[PATCH v2 2/2] tun: second", then)},
		want: files{tun: edit(tun, 8, "second"), tap: tinyKernel[tap]}, says: "version 2 is taken",
	},
	"two patches that became one": {
		is:   files{"m": post("[PATCH 1/2] tun: first", change(tun, 8, "tun line 8", "old")) + post("[PATCH 2/2] tun: second", change(tun, 8, "old", "older")) + post("[PATCH v2] tun: first", first, answers("1"))},
		want: wanted("first"), says: "version 2 is taken",
	},
	"quoted-printable": {is: files{"m": letter("[PATCH] tun: first", encoded("Größe = 1\n---\n"+first), qp...)}, want: wanted("first")},
	"base64 with CRLF": {
		is:   files{"m": letter("[PATCH] tun: first", inBase64(crlf("Why.\n---\n"+first)), "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: base64")},
		want: wanted("first"),
	},
	"format=flowed": {
		is:   files{"m": letter("[PATCH] tun: first", "Why.\n---\n"+strings.ReplaceAll(first, "\n ", "\n  "), "Content-Type: text/plain; charset=utf-8; format=flowed")},
		want: wanted("first"),
	},
	"8bit in another charset": {
		is:   files{"m": letter("[PATCH] tun: first", "Gr\xf6\xdfe.\n---\n"+change(tun, 8, "tun line 8", "\xf6"), "Content-Type: text/plain; charset=iso-8859-1", "Content-Transfer-Encoding: 8bit")},
		want: wanted("\xf6"),
	},
	"an unknown charset": {
		is:   files{"m": letter("=?x-klingon?q?=5BPATCH_1/1=5D_tun?=", "Gr\xf6\xdfe.\n---\n"+first, "Content-Type: text/plain; charset=x-klingon", "Content-Transfer-Encoding: 8bit")},
		want: wanted("first"),
	},
	"attachment": {
		is: files{"m": letter("[PATCH] tun: first", "--=-=\nContent-Type: text/plain\n\nSee the file.\n\n--=-=\nContent-Type: text/x-patch; name=a.patch\nContent-Disposition: attachment; filename=a.patch\nContent-Transfer-Encoding: base64\n\n"+inBase64(first)+"\n--=-=--\n",
			"MIME-Version: 1.0", `Content-Type: multipart/mixed; boundary="=-="`)},
		want: wanted("first"),
	},
	"a mail with CRLF":  {is: files{"m": crlf(strings.TrimPrefix(post("[PATCH] tun: first", first), "From 1 Mon Sep 17 00:00:00 2001\n"))}, want: wanted("first")},
	"an mbox with CRLF": {is: files{"m": crlf(post("[PATCH 1/2] tun: first", first) + post("[PATCH 2/2] tun: second", then))}, want: wanted("second")},
	"a diff with CRLF":  {is: files{"m": crlf("diff --git a/" + tun + " b/" + tun + "\n" + first)}, want: wanted("first")},
	"a byte order mark": {is: files{"m": "\ufeff" + first}, want: wanted("first")},
	"mnemonic prefixes": {is: files{"m": prefixed(first, "i/", "w/")}, want: wanted("first")},
	"quilt's prefixes":  {is: files{"m": "Index: linux/" + tun + "\n====\n" + prefixed(first, "linux-6.12.orig/", "linux-6.12/")}, want: wanted("first")},
	"no prefix":         {is: files{"m": prefixed(first, "", "")}, want: wanted("first"), says: "-p0"},
	"git's noprefix, a new file": {
		is:   files{"m": "diff --git include/n.h include/n.h\nnew file mode 100644\n--- /dev/null\n+++ include/n.h\n@@ -0,0 +1 @@\n+n\n"},
		want: files{"include/n.h": "n\n"}, says: "-p0",
	},
	"times behind the names":             {is: files{"m": prefixed(strings.ReplaceAll(first, ".c\n", ".c\t2025-11-04 09:00:00.000000000 +0100\n"), "a/", "b/")}, want: wanted("first")},
	"prose above":                        {is: files{"m": "tun: stop the txq\n\nIt is full: so stop.\n\n" + first}, want: wanted("first")},
	"a header of Debian's":               {is: files{"m": "Description: stop the txq\n It is full.\nAuthor: Nemo <nemo@localhost>\nForwarded: no\n---\nThis patch header follows DEP-3\n" + first}, want: wanted("first")},
	"a header of Debian's with a sender": {is: files{"m": "Description: stop\nFrom: Nemo <nemo@localhost>\n\n" + first}, want: wanted("first")},
	"words and a colon above":            {is: files{"m": "Subject: stop\nOrigin: here\n\n" + first}, want: wanted("first")},
	"a commit as git show has it":        {is: files{"m": "commit 0123456789\nAuthor: Nemo <nemo@localhost>\n\n    tun: first\n\n" + first}, want: wanted("first")},
	"a thread as lore has it": {
		is: files{"m": strings.ReplaceAll(letter("[PATCH 0/1] tun: stop", ">From here on it stops.")+post("[PATCH 1/1] tun: first", first)+letter("Re: [PATCH 1/1] tun: first", ">From what I see.\n> "+first),
			"From 1 Mon Sep 17 00:00:00 2001", "From mboxrd@z Thu Jan  1 00:00:00 1970")},
		want: wanted("first"),
	},
	"an mbox of Thunderbird's":   {is: files{"m": strings.ReplaceAll(post("[PATCH] tun: first", first), "From 1 Mon Sep 17 00:00:00 2001", "From - Tue Nov  4 09:00:00 2025\nX-Mozilla-Status: 0001")}, want: wanted("first")},
	"a mail below empty lines":   {is: files{"m": "\n\n" + strings.TrimPrefix(post("[PATCH] tun: first", first), "From 1 Mon Sep 17 00:00:00 2001\n")}, want: wanted("first")},
	"a folded subject":           {is: files{"m": letter("[PATCH\n 0/1] tun:\n\tstop", "W.") + post("[PATCH\n 1/1] tun:\n first", first)}, want: wanted("first")},
	"a subject in several words": {is: files{"m": letter("=?utf-8?q?Re=3A_=5BPATCH?=\n =?utf-8?q?_1/1=5D_tun?=", "W.\n\n"+then) + post("=?utf-8?q?=5BPATCH?=\n =?utf-8?q?_1/1=5D_tun?=", first)}, want: wanted("first")},
	"a cover letter with a diff": {is: files{"m": letter("[PATCH v2 0/1] tun: stop", "Interdiff:\n\n"+then) + post("[PATCH v2 1/1] tun: first", first)}, want: wanted("first"), says: "[PATCH v2 0/1]"},
	"a signed mail": {
		is: files{"m": letter("[PATCH] tun: first", "--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"+encoded("Why.\n---\n"+first)+"\n--b\nContent-Type: application/pgp-signature\n\n-----BEGIN PGP SIGNATURE-----\n\nabc=\n-----END PGP SIGNATURE-----\n--b--\n",
			"MIME-Version: 1.0", `Content-Type: multipart/signed; micalg=pgp-sha256; boundary="b"`)},
		want: wanted("first"),
	},
	"a mail without a name": {is: files{"m": "From: <>\nSubject: [PATCH] first\n\n" + first}, want: wanted("first")},
	"directory with versions": {
		is: files{
			"v2-0000-cover-letter.patch": letter("[PATCH v2 0/2] tun: stop", "W."),
			"v2-0001-tun-a.patch":        post("[PATCH v2 1/2] tun: a", first), "v2-0002-tun-b.patch": post("[PATCH v2 2/2] tun: b", then),
			"0001-tun-a.patch": post("[PATCH 1/2] tun: a", change(tun, 8, "tun line 8", "old")), "0002-tun-c.patch": post("[PATCH 2/2] tun: c", change(tap, 8, "tap line 8", "c")),
			"v10-0001-tun-a.patch": post("[PATCH v10 1/1] tun: a", change(tun, 8, "tun line 8", "tenth")),
		},
		want: files{tun: edit(tun, 8, "tenth"), tap: tinyKernel[tap]}, says: "version 10",
	},
	"directory with versions and no numbers": {
		is: files{"v2-0001-tun-a.patch": post("[PATCH v2] tun: a", first), "v2-0002-tun-b.patch": post("[PATCH v2] tun: b", then),
			"0001-tun-a.patch": post("[PATCH] tun: a", change(tun, 8, "tun line 8", "old")), "0002-tun-c.patch": post("[PATCH] tun: c", change(tap, 8, "tap line 8", "c"))},
		want: files{tun: edit(tun, 8, "second"), tap: tinyKernel[tap]}, says: "version 2",
	},
	"directory of what was collected": {
		is:   files{"0010-x.patch": post("[PATCH v3 4/8] tun: a", first), "0020-y.patch": post("[PATCH 2/3] tun: b", then)},
		want: wanted("second"),
	},
	"directory of what was collected, with its cover letter": {
		is:   files{"0.patch": letter("[PATCH 0/2] t", "Words."), "1.patch": post("[PATCH 1/2] tun: a", first), "2.patch": post("[PATCH 2/2] tun: b", then)},
		want: wanted("second"), says: "[PATCH 0/2]",
	},
	"quilt in the tree it is for": {is: files{"patches/series": "first.patch\n", "patches/first.patch": prefixed(first, "linux.orig/", "linux/"), "README": "x\n"}, want: wanted("first")},
	"directory of diffs":          {is: files{"1.diff": first, "2.diff": then}, want: wanted("second")},
	"quilt": {
		is: files{"series": "# the series\n\nb/first.patch -p0 # a comment\nsecond -p1\nthird\n", "b/first.patch": prefixed(first, "", ""),
			"second": "Words.\n\n" + prefixed(then, "linux.orig/", "linux/"), "third": post("tap: third", change(tap, 8, "tap line 8", "third")), "x.patch": "not listed"},
		want: files{tun: edit(tun, 8, "second"), tap: edit(tap, 8, "third")},
	},
	"maildir": {
		is:   files{"new/2.x": post("[PATCH 1/2] tun: first", first), "new/1.x": post("[PATCH 2/2] tun: second", then), "cur/3.x:2,S": letter("Re: [PATCH 1/2] tun: first", "Fine.")},
		want: wanted("second"),
	},
	"rename and mode": {
		is: files{"m": "diff --git a/" + tun + " b/drivers/net/tunnel.c\nsimilarity index 97%\nrename from " + tun + "\nrename to drivers/net/tunnel.c\n" +
			strings.ReplaceAll(first, "b/"+tun, "b/drivers/net/tunnel.c") + "diff --git a/Makefile b/Makefile\nold mode 100644\nnew mode 100755\n"},
		want: files{"drivers/net/tunnel.c": edit(tun, 8, "first")},
	},
	"a file deleted": {
		is:   files{"m": "diff --git a/Kbuild b/Kbuild\ndeleted file mode 100644\n--- a/Kbuild\n+++ /dev/null\n@@ -1 +0,0 @@\n-obj-y += drivers/\n" + first},
		want: wanted("first"),
	},
	"binary": {
		is:   files{"m": "diff --git a/logo.bin b/logo.bin\nnew file mode 100644\nindex 0000000000000000000000000000000000000000..20b5be91886d0b6f26dc98a225c0dac05fe2c86e\nGIT binary patch\nliteral 3\nKcmYdfNCE%>hycU@\n\nliteral 0\nHcmV?d00001\n\n" + first},
		want: files{tun: edit(tun, 8, "first"), "logo.bin": "a\x00b"},
	},
	"a name that git quotes": {
		is:   files{"m": "diff --git \"a/include/\\303\\266.h\" \"b/include/\\303\\266.h\"\n--- \"a/include/\\303\\266.h\"\n+++ \"b/include/\\303\\266.h\"\n@@ -1 +1 @@\n-old\n+new\n"},
		want: files{"include/ö.h": "new\n"},
	},
	"a name with a space": {is: files{"m": "diff --git a/include/a b.h b/include/a b.h\n--- a/include/a b.h\t\n+++ b/include/a b.h\t\n@@ -1 +1 @@\n-old\n+new\n"}, want: files{"include/a b.h": "new\n"}},
	"a file with CRLF":    {is: files{"m": "diff --git a/include/dos.h b/include/dos.h\n--- a/include/dos.h\n+++ b/include/dos.h\n@@ -1,2 +1,2 @@\n-old\r\n+new\r\n end\r\n"}, want: files{"include/dos.h": "new\r\nend\r\n"}},
	"what no build reads": {
		is:   files{"m": first + "--- a/Documentation/networking/tuntap.rst\n+++ b/Documentation/networking/tuntap.rst\n@@ -1 +1 @@\n-old\n+new\n--- a/MAINTAINERS\n+++ b/MAINTAINERS\n@@ -7 +7 @@\n-old\n+new\n"},
		want: wanted("first"), says: "networking/tuntap.rst",
	},
	"nothing but what no build reads": {
		is:   files{"m": post("[PATCH 1/2] doc", "--- a/MAINTAINERS\n+++ b/MAINTAINERS\n@@ -7 +7 @@\n-old\n+new\n") + post("[PATCH 2/2] tun: first", first)},
		want: wanted("first"), says: "MAINTAINERS",
	},
}

func tenAndMore() string {
	all, is := "", "tun line 8"
	for n := 1; n <= 11; n++ {
		to := fmt.Sprintf("step %d", n)
		all = post(fmt.Sprintf("[PATCH %02d/11] tun: step", n), change(tun, 8, is, to)) + all
		is = to
	}
	return all
}

// place writes a form and returns what -series is given.
func place(t *testing.T, is files) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // t.TempDir has the name of the test in it, which a message might say
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	is.write(t, dir)
	if len(is) == 1 {
		for name := range is {
			return filepath.Join(dir, name)
		}
	}
	return dir
}

// formsTree is tinyKernel with what some forms change.
func formsTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	all := maps.Clone(tinyKernel)
	maps.Copy(all, files{"include/ö.h": "old\n", "include/a b.h": "old\n", "include/dos.h": "old\r\nend\r\n", "MAINTAINERS": "other\n"})
	all.write(t, dir)
	return dir
}

func TestSeriesIsTakenAsItComes(t *testing.T) {
	isolate(t)
	source := formsTree(t)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			dir, said, err := preparedVersion(t, source, form.version, place(t, form.is))
			if err != nil {
				t.Fatal(err)
			}
			for path, content := range form.want {
				if got := contentOf(t, filepath.Join(dir, path)); got != content {
					t.Errorf("%s is\n%s", path, got)
				}
			}
			if !strings.Contains(said, form.says) {
				t.Errorf("said %q, and not %q", said, form.says)
			}
		})
	}
}

// TestSeriesThatCannotBeTakenIsExplained: what is refused, and what the message
// names.
func TestSeriesThatCannotBeTakenIsExplained(t *testing.T) {
	isolate(t)
	source := formsTree(t)
	for name, tt := range map[string]struct {
		is      files
		version int
		says    []string
	}{
		"missing": {is: files{"m": post("[PATCH 1/4] a", first) + post("[PATCH 3/4] c", then)}, says: []string{"lacks 2/4 and 4/4"}},
		"missing in a directory": {
			is:   files{"0001-a.patch": post("[PATCH 1/3] a", first), "0003-c.patch": post("[PATCH 3/3] c", then)},
			says: []string{"2/3"},
		},
		"a reroll of one": {
			is:   files{"m": post("[PATCH 1/2] a", first) + post("[PATCH 2/2] b", then) + post("[PATCH v2 2/2] b", then) + post("[PATCH v2 2/2] b", change(tap, 8, "tap line 8", "x"))},
			says: []string{"number 2", "differs"},
		},
		"two generations in a directory": {
			is:   files{"0001-a.patch": post("[PATCH 1/2] a", first), "0001-b.patch": post("[PATCH 1/2] b", then), "0002-c.patch": post("[PATCH 2/2] c", then)},
			says: []string{"0001-a.patch", "0001-b.patch"},
		},
		"two series": {
			is:   files{"m": post("[PATCH v2 1/2] a", first) + post("[PATCH 1/2] x", first) + post("[PATCH v2 2/2] b", then) + post("[PATCH 2/2] y", then)},
			says: []string{"no subject in common", "-v N"},
		},
		"no such version":          {is: files{"m": post("[PATCH v2 1/1] a", first) + post("[PATCH v3 1/1] a", first)}, version: 1, says: []string{"no version 1", "2 and 3"}},
		"no such version, nor two": {is: files{"m": post("[PATCH v2 1/1] a", first)}, version: 4, says: []string{"no version 4"}},
		"the diff was lost":        {is: files{"m": post("[PATCH 1/2] a", first) + letter("[PATCH 2/2] b", "Words.")}, says: []string{"[PATCH 2/2] b", "no diff"}},
		"wrapped lines":            {is: files{"m": post("[PATCH] a", strings.Replace(first, "-tun line 8", "-tun\nline 8", 1))}, says: []string{"damaged", "corrupt patch"}},
		"only replies":             {is: files{"m": letter("Re: [PATCH] a", "No.\n\n"+first)}, says: []string{"Re: [PATCH] a", "only you know"}},
		"UTF-16":                   {is: files{"m": "\xff\xfed\x00i\x00f\x00f\x00"}, says: []string{"UTF-16"}},
		"a web page":               {is: files{"m": "<html><body>" + first}, says: []string{"web page"}},
		"coloured":                 {is: files{"m": "\x1b[1mdiff --git a/x b/x\x1b[m\n\x1b[1m--- a/x\x1b[m\n"}, says: []string{"--no-color"}},
		"compressed by xz":         {is: files{"m": "\xfd7zXZ\x00\x00\x04"}, says: []string{"gzip"}},
		"quilt, a missing file":    {is: files{"series": "a.patch\n", "b.patch": first}, says: []string{"a.patch", "no such file"}},
		"quilt, reversed":          {is: files{"series": "a.patch -R\n", "a.patch": first}, says: []string{"-R"}},
		"binary without content":   {is: files{"m": "diff --git a/Kbuild b/Kbuild\nindex 0123456..789abcd 100644\nBinary files a/Kbuild and b/Kbuild differ\n"}, says: []string{"binary", "Kbuild"}},
		"outside of the tree":      {is: files{"m": "--- a/../../x\n+++ b/../../x\n@@ -0,0 +1 @@\n+x\n"}, says: []string{"../x"}},
		"another base": {
			is:   files{"m": change(tun, 20, "tun line twenty", "x")},
			says: []string{"drivers/net/tun.c:19", "@@ -19,3 +19,3 @@", "expects  tun line twenty", "line 20 is tun line 20"},
		},
		"another base, which the cover letter names": {
			is: files{"m": letter("[PATCH v2 0/1] tun: stop", "Words.\n\nbase-commit: 0123456789abcdef0123456789abcdef01234567\n-- \n2.47.0") +
				post("[PATCH v2 1/1] tun: first", change(tun, 20, "tun line twenty", "x"))},
			says: []string{"line 20 is tun line 20\n", "commit 0123456789abcdef0123456789abcdef01234567"},
		},
		"another base, shifted": {
			is:   files{"m": strings.Replace(change(tun, 20, "tun line twenty", "x"), "@@ -19,3 +19,3", "@@ -9,3 +9,3", 1)},
			says: []string{"drivers/net/tun.c:9", "line 20 is tun line 20"},
		},
		"white space":       {is: files{"m": change(tun, 20, "tun  line 20", "x")}, says: []string{"white space"}},
		"nothing like it":   {is: files{"m": "--- a/Kbuild\n+++ b/Kbuild\n@@ -1 +1 @@\n-obj-m += net/\n+x\n"}, says: []string{"nothing like it"}},
		"in there already":  {is: files{"m": "--- a/" + tun + "\n+++ b/" + tun + "\n@@ -7,3 +7,3 @@\n tun line 7\n-older\n+tun line 8\n tun line 9\n"}, says: []string{"already"}},
		"a file not there":  {is: files{"m": strings.ReplaceAll(first, "tun.c", "tyn.c")}, says: []string{"drivers/net/tyn.c"}},
		"part not applying": {is: files{"m": first + "--- a/Documentation/Kconfig\n+++ b/Documentation/Kconfig\n@@ -1 +1 @@\n-old\n+new\n"}, says: []string{"Documentation/Kconfig"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, said, err := preparedVersion(t, source, tt.version, place(t, tt.is))
			if err == nil {
				t.Fatalf("it was taken: %s", said)
			}
			t.Log(err)
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("does not say %q", want)
				}
			}
		})
	}
}

// TestSeriesOnAnotherBase: where the repository has what the patch was made
// for, it is merged as git am -3 does.
func TestSeriesOnAnotherBase(t *testing.T) {
	isolate(t)
	source := sources["git"](t)
	files{tun: edit(tun, 8, "first")}.write(t, source)
	userGit(t, source, "commit", "--quiet", "--all", "--message=first")
	series := filepath.Join(t.TempDir(), "s.mbox")
	files{"s.mbox": userGit(t, source, "format-patch", "-1", "--stdout")}.write(t, filepath.Dir(series))

	_, _, err := preparedVersion(t, source, 0, series)
	var pe *PatchError
	if !errors.As(err, &pe) || !pe.There {
		t.Errorf("a series that is in the tree: %v", err)
	}
	userGit(t, source, "reset", "--quiet", "--hard", "HEAD~")
	// The context of the hunk differs: plain git am refuses.
	files{tun: strings.Replace(tinyKernel[tun], "tun line 10\n", "", 1)}.write(t, source)
	dir, said, err := preparedVersion(t, source, 0, series)
	if err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, filepath.Join(dir, tun)); !strings.Contains(got, "line 7\nfirst\ntun line 9\ntun line 11\n") {
		t.Errorf("merged to\n%s", got)
	}
	if !strings.Contains(said, "three-way merge") {
		t.Errorf("said %q", said)
	}
	files{tun: edit(tun, 8, "theirs")}.write(t, source)
	if _, _, err := preparedVersion(t, source, 0, series); !errors.As(err, &pe) || len(pe.Hunks) != 1 || pe.Hunks[0].Got != "theirs" {
		t.Errorf("a conflict: %v", err)
	}
}

// TestSeriesOnABaseWithOtherNames: a file that was renamed since, and perhaps
// changed, gets the patch all the same, as with git am -3.
func TestSeriesOnABaseWithOtherNames(t *testing.T) {
	isolate(t)
	from := sources["git"](t)
	files{tun: edit(tun, 8, "first"), "drivers/net/new.c": "new\n"}.write(t, from)
	userGit(t, from, "add", "--all")
	userGit(t, from, "commit", "--quiet", "--message=first")
	series := place(t, files{"s.mbox": userGit(t, from, "format-patch", "-1", "--stdout")})
	userGit(t, from, "reset", "--quiet", "--hard", "HEAD~")
	const tunnel = "drivers/net/tunnel/core.c"
	for _, tt := range []struct {
		name    string
		kind    string
		is      files // beside what was renamed
		content string
		want    string // of tunnel; "" if the series does not apply
	}{
		{"renamed", "git", nil, tinyKernel[tun], edit(tun, 8, "first")},
		{"renamed, unpacked", "unpacked", nil, tinyKernel[tun], edit(tun, 8, "first")},
		{"renamed and changed", "git", nil, edit(tun, 30, "thirty"), strings.Replace(edit(tun, 30, "thirty"), "tun line 8\n", "first\n", 1)},
		{"renamed and changed there", "git", nil, edit(tun, 8, "theirs"), ""},
		{"another file", "git", nil, lines("tunnel", 40), ""},
		{"renamed, with the patch in it", "git", files{"drivers/net/new.c": "new\n"}, edit(tun, 8, "first"), ""},
		{"renamed, with a file of the name", "git", files{tun: "#include \"tunnel/core.c\"\n"}, tinyKernel[tun], ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source := from
			if tt.kind == "unpacked" {
				source = sources["unpacked"](t)
			} else {
				source = t.TempDir()
				userGit(t, source, "clone", "--quiet", from, ".")
			}
			if err := os.Remove(filepath.Join(source, tun)); err != nil {
				t.Fatal(err)
			}
			files{tunnel: tt.content}.write(t, source)
			tt.is.write(t, source)
			if tt.kind == "git" {
				userGit(t, source, "add", "--all")
				userGit(t, source, "commit", "--quiet", "--message=rename")
			}
			dir, said, err := preparedVersion(t, source, 0, series)
			if tt.kind == "git" && tt.want != "" {
				userGit(t, source, "am", "--quiet", "-3", series)
				if got := contentOf(t, filepath.Join(source, tunnel)); got != tt.want {
					t.Errorf("git makes of it\n%s", got)
				}
			}
			var pe *PatchError
			if tt.want == "" {
				if !errors.As(err, &pe) {
					t.Errorf("%v; said %q", err, said)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := contentOf(t, filepath.Join(dir, tunnel)); got != tt.want {
				t.Errorf("merged to\n%s", got)
			}
			if exists(filepath.Join(dir, tun)) || contentOf(t, filepath.Join(dir, "drivers/net/new.c")) != "new\n" {
				t.Error("the rest of the patch is not as with git am -3")
			}
			if !strings.Contains(said, "merge to\n  "+tunnel+"\n") {
				t.Errorf("said %q", said)
			}
		})
	}
}

func TestHomeDirectoryInASeriesPath(t *testing.T) {
	isolate(t)
	files{"s.patch": first}.write(t, os.Getenv("HOME"))
	if _, _, err := preparedVersion(t, formsTree(t), 0, "~/s.patch"); err != nil {
		t.Error(err)
	}
}

// TestSeriesAsGitWritesIt: each way in which git itself writes two commits.
func TestSeriesAsGitWritesIt(t *testing.T) {
	isolate(t)
	from := sources["git"](t)
	userGit(t, from, "branch", "--quiet", "base")
	files{tun: edit(tun, 8, "first")}.write(t, from)
	userGit(t, from, "commit", "--quiet", "--all", "--message=tun: stop — not drop", "--author=Jürgen <j@localhost>")
	files{tun: edit(tun, 8, "second"), "include/new.h": "new\n"}.write(t, from)
	userGit(t, from, "mv", "include/ring.h", "include/ring2.h")
	userGit(t, from, "add", "--all")
	userGit(t, from, "commit", "--quiet", "--message=ring: rename\n\nFrom here on all is new.\n\nFrom there, too.")
	want := files{tun: edit(tun, 8, "second"), "include/new.h": "new\n", "include/ring2.h": tinyKernel["include/ring.h"]}
	source := sources["unpacked"](t)
	for _, args := range []string{
		"format-patch --stdout", "format-patch --stdout --attach", "format-patch --stdout --inline", "format-patch --stdout --no-numbered",
		"format-patch --stdout --keep-subject", "format-patch --stdout --cover-letter --thread --reroll-count=3 --rfc", "format-patch --stdout --no-prefix",
		"format-patch --stdout --full-index --binary --no-renames", "format-patch --stdout --encode-email-headers --base=base --zero-commit",
		"format-patch --stdout --cover-letter --interdiff=base", "format-patch --stdout --cover-letter --range-diff=base", "format-patch --stdout --minimal --function-context",
		"-c diff.mnemonicPrefix=true diff", "diff --no-prefix", "diff --src-prefix=linux.orig/ --dst-prefix=linux/", "log -p --reverse --format=email", "log -p --reverse", "diff --stat -p",
	} {
		t.Run(args, func(t *testing.T) {
			text := userGit(t, from, append(strings.Fields(args), "base..HEAD")...)
			if strings.Contains(args, "format-patch") {
				text = userGit(t, from, append(strings.Fields(args), "base")...)
			}
			dir := mustPrepare(t, source, place(t, files{"s": text}))
			for path, content := range want {
				if got := contentOf(t, filepath.Join(dir, path)); got != content {
					t.Errorf("%s is\n%s", path, got)
				}
			}
			if exists(filepath.Join(dir, "include/ring.h")) {
				t.Error("include/ring.h is still there")
			}
		})
	}
}
