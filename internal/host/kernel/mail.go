package kernel

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// item is what a series is made of: a mail, with or without a patch in it, or a
// diff.
type item struct {
	patch         // without diff, if the mail has none
	header string // the whole subject, decoded
	damage string // what git says of a diff that is none, or is broken
	id     string // Message-ID
	answer bool   // it refers to another mail
	from   string // who sent it
	tag
}

// tag is what a subject says in brackets.
type tag struct {
	tagged  bool // [PATCH] or a number
	reply   bool
	version int // 1 if it names none
	number  int // of total
	total   int // 0: without a number
}

// lost is the error of a patch that should be there.
func (it *item) lost() error {
	if it.damage == noDiff {
		return fmt.Errorf("the mail %q has no diff in it", it.header)
	}
	return fmt.Errorf("the diff of %q is damaged, perhaps by a mailer that wraps lines: git says %s", it.name(), it.damage)
}

func (it *item) name() string {
	if it.header != "" {
		return it.header
	}
	return it.Subject
}

var (
	fromLine   = regexp.MustCompile(`\A\s*From \S+.* \d\d:\d\d:\d\d .*\n`)
	headerLine = regexp.MustCompile(`^([!-9;-~]+:|[ \t])`) // RFC 5322, 2.2
)

// isMail says whether a text is an mbox or a mail: git am takes for a mail
// whatever begins with lines "word: ", but a patch may have a header of its own
// in that form, such as Debian's (DEP-3). A mail has a sender.
func isMail(text []byte) bool {
	if fromLine.Match(text) {
		return true
	}
	head := headOf(text)
	sender := false
	for line := range strings.Lines(head) {
		if !headerLine.MatchString(line) {
			return false
		}
		sender = sender || strings.HasPrefix(strings.ToLower(line), "from:")
	}
	return sender
}

// headOf returns the header of a mail.
func headOf(text []byte) string {
	text = bytes.TrimLeft(fromLine.ReplaceAll(text, nil), "\r\n")
	// Not the whole text converted: an mbox may be large.
	if end := endOfHead.FindIndex(text); end != nil {
		text = text[:end[0]]
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

var endOfHead = regexp.MustCompile(`\r?\n\r?\n`)

// field returns a field of a mail's header on one line.
func field(head, name string) string {
	m := regexp.MustCompile(`(?im)^` + name + `:((?:.*\n?)(?:[ \t].*\n?)*)`).FindStringSubmatch(head)
	if m == nil {
		return ""
	}
	return strings.Join(strings.Fields(m[1]), " ")
}

// sender returns the address in a From field.
func sender(from string) string {
	if _, address, ok := strings.Cut(from, "<"); ok {
		from, _, _ = strings.Cut(address, ">")
	}
	return strings.ToLower(from)
}

// mails takes an mbox apart.
func (r *reader) mails(file string, text []byte) ([]item, error) {
	dir, err := os.MkdirTemp(r.scratch, "mbox")
	if err != nil {
		return nil, err
	}
	mbox := filepath.Join(r.scratch, "mbox")
	if err := os.WriteFile(mbox, text, 0o600); err != nil {
		return nil, err
	}
	if _, err := r.none.git(r.ctx, "mailsplit", "-b", "-o"+dir, "--", mbox).output(); err != nil {
		return nil, err
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	// mailsplit writes at least four digits.
	slices.SortFunc(names, func(a, b os.DirEntry) int {
		x, _ := strconv.Atoi(a.Name())
		y, _ := strconv.Atoi(b.Name())
		return x - y
	})
	var items []item
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name.Name()))
		if err != nil {
			return nil, err
		}
		it, err := r.mail(text)
		if err != nil {
			return nil, err
		}
		it.File = file
		items = append(items, it)
	}
	return items, nil
}

func (r *reader) mail(text []byte) (item, error) {
	diffFile := filepath.Join(r.scratch, "diff")
	var info string
	var err error
	// -n leaves a charset that iconv does not know as it is. git converts the
	// message alone, never the diff.
	for _, args := range [][]string{{"mailinfo"}, {"mailinfo", "-n"}} {
		info, err = r.none.git(r.ctx, append(args, filepath.Join(r.scratch, "message"), diffFile)...).
			in(r.scratch).input(bytes.NewReader(text)).output()
		if err == nil || r.ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return item{}, fmt.Errorf("read the mail %q: %w", field(headOf(text), "Subject"), err)
	}
	diff, err := os.ReadFile(diffFile)
	if err != nil {
		return item{}, err
	}
	_, subject, _ := strings.Cut("\n"+info, "\nSubject: ")
	subject, _, _ = strings.Cut(subject, "\n")
	head := headOf(text)
	it := item{
		patch:  patch{Subject: subject, text: text, diff: stripCR(diff)},
		header: decodeHeader(field(head, "Subject")), // mailinfo strips "Re:" and the brackets
		id:     field(head, "Message-ID"),
		answer: field(head, "In-Reply-To") != "" || field(head, "References") != "",
		from:   sender(field(head, "From")),
	}
	it.tag = readTag(it.header)
	if it.damage, err = r.judge(it.diff); err != nil {
		return item{}, err
	}
	if it.damage != "" {
		it.diff = nil
	}
	return it, nil
}

// decodeHeader decodes RFC 2047. All charsets in use have ASCII, which is all
// that matters here.
func decodeHeader(s string) string {
	d := mime.WordDecoder{CharsetReader: func(_ string, input io.Reader) (io.Reader, error) { return input, nil }}
	if decoded, err := d.DecodeHeader(s); err == nil {
		return strings.Join(strings.Fields(decoded), " ")
	}
	return s
}

var (
	brackets = regexp.MustCompile(`^\[([^][]*)\]\s*`)
	counter  = regexp.MustCompile(`(?:^|\D)(\d{1,4})\s*(?:/|of)\s*(\d{1,4})(?:$|\D)`)
	revision = regexp.MustCompile(`(?i)(?:^|[^a-z]|patch|rfc|resend)v\.?(\d{1,3})(\.\d)?(?:$|[^\d.])`)
	isPatch  = regexp.MustCompile(`(?i)(?:^|[^a-z])(patch|patches|rfc)(?:$|[^a-z]|v\d)`)
	// "Re:" in the languages of the mailers in use.
	replyWord = regexp.MustCompile(`(?i)^(?:re|aw|sv|vs|antw|antwort|fw|fwd|wg|tr|rv|ref|rif|odp|enc|res|ynt|atb|doorst|回复|答复|转发|회신|返信)\s*(?:[[(^]\d+[])]?)?\s*[:\x{FF1A}]\s*`)
	// A word in any other: it stands before the brackets of a patch.
	anyReply = regexp.MustCompile(`^[^\s:\x{FF1A}[\]]{1,12}(?:\[\d+\])?\s*[:\x{FF1A}]\s*\[`)
)

// readTag reads what stands before the proper subject.
func readTag(subject string) tag {
	t := tag{version: 1}
	for {
		if m := brackets.FindStringSubmatch(subject); m != nil {
			subject = subject[len(m[0]):]
			t.tagged = t.tagged || isPatch.MatchString(m[1])
			if v := revision.FindStringSubmatch(m[1]); v != nil && v[2] == "" {
				t.version, _ = strconv.Atoi(v[1])
			}
			if n := counter.FindStringSubmatch(m[1]); n != nil {
				number, _ := strconv.Atoi(n[1])
				total, _ := strconv.Atoi(n[2])
				if number <= total { // not "[net-next 6/1]"
					t.tagged, t.number, t.total = true, number, total
				}
			}
			continue
		}
		if word := replyWord.FindString(subject); word != "" && !t.tagged {
			t.reply = true
			subject = subject[len(word):]
			continue
		}
		if word := anyReply.FindString(subject); word != "" && !t.tagged {
			if rest := readTag(subject[len(word)-1:]); rest.tagged {
				rest.reply = true
				return rest
			}
		}
		return t
	}
}
