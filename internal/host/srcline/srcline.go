// Package srcline finds the source line of an instruction of the kernel, in the line
// tables of its vmlinux.
package srcline

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Lines reads a vmlinux. It is not safe for concurrent use.
type Lines struct {
	file *elf.File
	data *dwarf.Data
	top  string // of the kernel's tree when it was built, with a "/"
	made string // the directory in which it was built
	// Read returns the text of a file, by its name from the top of the kernel's
	// tree on, as it was when the kernel was built; false if that is not known.
	// Open sets it to what the build's directory tells.
	Read func(file string) (text string, ok bool)
}

// Check returns nil if the file is one that Open may be given; whether it has
// line tables takes long to see.
func Check(vmlinux string) error {
	file, err := elf.Open(vmlinux)
	if err != nil {
		return fmt.Errorf("VMLINUX: read %s: %w", vmlinux, err)
	}
	return file.Close()
}

// SameBuild returns an error if the vmlinux is of another build than the kernel
// whose ELF notes these are (/sys/kernel/notes): its addresses would name the
// wrong lines. Where one of both has no build id, that cannot be told.
func SameBuild(vmlinux string, notes []byte) error {
	file, err := elf.Open(vmlinux)
	if err != nil {
		return fmt.Errorf("VMLINUX: read %s: %w", vmlinux, err)
	}
	defer file.Close()
	given, err := buildIDOf(file)
	if err != nil {
		return fmt.Errorf("VMLINUX: read %s: %w", vmlinux, err)
	}
	running := NotesBuildID(notes)
	if running != given && running != "" && given != "" {
		return fmt.Errorf("VMLINUX: %s is not of the kernel that runs, but of another build: its build id is %s, the kernel's %s; give the vmlinux that was built with the bzImage", vmlinux, given, running)
	}
	return nil
}

// BuildID returns the build id of a vmlinux, "" if it has none.
func BuildID(vmlinux string) (string, error) {
	file, err := elf.Open(vmlinux)
	if err != nil {
		return "", err
	}
	defer file.Close()
	return buildIDOf(file)
}

func buildIDOf(file *elf.File) (string, error) {
	for _, section := range file.Sections {
		if section.Type != elf.SHT_NOTE {
			continue
		}
		notes, err := section.Data()
		if err != nil {
			return "", err
		}
		if id := NotesBuildID(notes); id != "" {
			return id, nil
		}
	}
	return "", nil
}

// NotesBuildID finds the build id in ELF notes, "" if there is none (elf(5): Elf_Nhdr).
func NotesBuildID(notes []byte) string {
	const header, align = 12, 4
	const buildIDNote = 3 // NT_GNU_BUILD_ID
	for len(notes) >= header {
		name, desc := binary.LittleEndian.Uint32(notes), binary.LittleEndian.Uint32(notes[4:])
		kind := binary.LittleEndian.Uint32(notes[8:])
		at := header + (uint64(name)+align-1)/align*align
		end := at + uint64(desc)
		if end > uint64(len(notes)) {
			return ""
		}
		if kind == buildIDNote && string(notes[header:header+name]) == "GNU\x00" {
			return hex.EncodeToString(notes[at:end])
		}
		notes = notes[min((end+align-1)/align*align, uint64(len(notes))):]
	}
	return ""
}

// Open opens a vmlinux that has line tables (CONFIG_DEBUG_INFO). Close it.
func Open(vmlinux string) (*Lines, error) {
	file, err := elf.Open(vmlinux)
	if err != nil {
		return nil, fmt.Errorf("VMLINUX: read %s: %w", vmlinux, err)
	}
	data, err := file.DWARF()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("VMLINUX: %s has no line tables; CONFIG_DEBUG_INFO makes them: %w", vmlinux, err), file.Close())
	}
	info, err := os.Stat(vmlinux)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("VMLINUX: %w", err), file.Close())
	}
	l := &Lines{file: file, data: data}
	l.findTop()
	// Where it was built, it has the time of its build. A copy may be newer
	// than a source that has changed since.
	l.Read = func(string) (string, bool) { return "", false }
	if dir, err := filepath.EvalSymlinks(filepath.Dir(vmlinux)); err == nil && dir == l.made {
		l.Read = func(name string) (string, bool) {
			path := filepath.Join(l.top, name)
			if now, err := os.Stat(path); err != nil || now.ModTime().After(info.ModTime()) {
				return "", false
			}
			text, err := os.ReadFile(path)
			return string(text), err == nil
		}
	}
	return l, nil
}

// findTop learns from a file that every kernel has where its tree was, and
// where it was built.
func (l *Lines) findTop() {
	r := l.data.Reader()
	for {
		e, err := r.Next()
		if err != nil || e == nil {
			return
		}
		if name, ok := e.Val(dwarf.AttrName).(string); ok && e.Tag == dwarf.TagCompileUnit {
			if top, ok := strings.CutSuffix(name, "init/main.c"); ok {
				l.made, _ = e.Val(dwarf.AttrCompDir).(string)
				if l.top = top; !filepath.IsAbs(top) { // debug/dwarf joins them so
					l.top = l.made + "/" + top
				}
				return
			}
		}
		r.SkipChildren()
	}
}

func (l *Lines) Close() error { return l.file.Close() }

// Frame is a place in the source.
type Frame struct {
	Function string
	File     string // from the top of the kernel's tree on
	Line     int
}

func (f Frame) String() string { return fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line) }

// At returns where the instruction at addr comes from: the innermost function
// that was inlined there first, and then what called it, to the function that
// has a symbol. The error says that the vmlinux does not know.
func (l *Lines) At(addr uint64) ([]Frame, error) {
	r := l.data.Reader()
	unit, err := r.SeekPC(addr)
	if err != nil {
		return nil, fmt.Errorf("VMLINUX has no line for %#x: %w", addr, err)
	}
	lines, err := l.data.LineReader(unit)
	if lines == nil {
		return nil, errors.Join(fmt.Errorf("VMLINUX has no line for %#x: the source file was compiled without line tables", addr), err)
	}
	var entry dwarf.LineEntry
	if err := lines.SeekPC(addr, &entry); err != nil {
		return nil, fmt.Errorf("VMLINUX has no line for %#x: %w", addr, err)
	}
	chain, err := l.chain(r, addr)
	if err != nil {
		return nil, err
	}
	file, line := entry.File.Name, entry.Line
	var frames []Frame
	for _, e := range slices.Backward(chain) {
		frames = append(frames, Frame{Function: l.name(e), File: strings.TrimPrefix(file, l.top), Line: line})
		if call, ok := e.Val(dwarf.AttrCallFile).(int64); ok && int(call) < len(lines.Files()) && lines.Files()[call] != nil {
			file = lines.Files()[call].Name
		}
		if call, ok := e.Val(dwarf.AttrCallLine).(int64); ok {
			line = int(call)
		}
	}
	return frames, nil
}

// chain returns the function that holds addr, and the functions inlined into
// it that do, the outermost first. r stands behind a unit's own entry.
func (l *Lines) chain(r *dwarf.Reader, addr uint64) (chain []*dwarf.Entry, err error) {
	for depth := 0; ; {
		e, err := r.Next()
		if err != nil {
			return nil, err
		}
		if e == nil || e.Tag == 0 && depth == 0 {
			return chain, nil
		}
		if e.Tag == 0 {
			depth--
			continue
		}
		holds := false
		switch e.Tag {
		case dwarf.TagSubprogram, dwarf.TagInlinedSubroutine, dwarf.TagLexDwarfBlock:
			ranges, err := l.data.Ranges(e)
			if err != nil {
				return nil, err
			}
			holds = slices.ContainsFunc(ranges, func(r [2]uint64) bool { return r[0] <= addr && addr < r[1] })
			if holds && e.Tag != dwarf.TagLexDwarfBlock {
				chain = append(chain, e)
			}
		}
		// A block without addresses of its own may hold some that have.
		look := holds || e.Tag == dwarf.TagLexDwarfBlock && e.AttrField(dwarf.AttrLowpc) == nil && e.AttrField(dwarf.AttrRanges) == nil
		switch {
		case e.Children && look:
			depth++
		case e.Children:
			r.SkipChildren()
		}
	}
}

// name is the function's, which stands with its declaration.
func (l *Lines) name(e *dwarf.Entry) string {
	for range 4 {
		if name, ok := e.Val(dwarf.AttrName).(string); ok {
			return name
		}
		to, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
		if !ok {
			if to, ok = e.Val(dwarf.AttrSpecification).(dwarf.Offset); !ok {
				break
			}
		}
		r := l.data.Reader()
		r.Seek(to)
		next, err := r.Next()
		if err != nil || next == nil {
			break
		}
		e = next
	}
	return "?"
}

// Symbols returns the addresses of the functions of that name: static ones may share it.
func (l *Lines) Symbols(name string) (addrs []uint64) {
	symbols, _ := l.file.Symbols() // none in a file without a symbol table
	for _, s := range symbols {
		if s.Name == name && elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			addrs = append(addrs, s.Value)
		}
	}
	return addrs
}
