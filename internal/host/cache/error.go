package cache

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// FullError says that the file system of the cache is too full, or became so.
type FullError struct {
	Dir  string
	Free uint64 // bytes
	Need uint64 // bytes that the step takes, about; 0 if not known
	// NoInode says that there is no room for another file, whatever Free is.
	NoInode bool
}

func (e *FullError) Error() string {
	s := fmt.Sprintf("no space left in %s: %d MB free", e.Dir, e.Free>>20)
	if e.NoInode {
		s = fmt.Sprintf("no inode left in %s, whatever space is free", e.Dir)
	} else if e.Need != 0 {
		s += fmt.Sprintf(", about %d MB needed", e.Need>>20)
	}
	return s + "; make room, or move the cache with " + Env
}

func (e *FullError) Unwrap() error { return unix.ENOSPC }

// Free is how many bytes the user can still write to dir's file system.
func Free(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// AccessError says that this user cannot use a directory of the cache.
type AccessError struct {
	Dir   string
	Owner string
	User  string
	Err   error
}

func (e *AccessError) Error() string {
	s := fmt.Sprintf("cannot write to the cache: %v: ", e.Err)
	switch {
	case errors.Is(e.Err, unix.EROFS):
		s += e.Dir + " is on a file system that is mounted read-only"
	case e.Owner == e.User:
		s += fmt.Sprintf("%s is yours (%s), and its mode does not let you write", e.Dir, e.User)
	default:
		s += fmt.Sprintf("%s belongs to %s, and you are %s", e.Dir, e.Owner, e.User)
	}
	return s + fmt.Sprintf("; set %s to a directory of your own, or share this one: a common group, chmod -R g+rwXs, umask 002", Env)
}

func (e *AccessError) Unwrap() error { return e.Err }

// explain returns an error that came from path, in the cache or on the way to
// it, as a *FullError or an *AccessError if that is what it is.
func explain(path string, err error) error {
	var full *FullError
	var access *AccessError
	var foreign *ForeignError
	switch {
	case err == nil, errors.As(err, &full), errors.As(err, &access), errors.As(err, &foreign):
		return err
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
		dir, owner := nearest(path)
		return &AccessError{Dir: dir, Owner: userName(owner), User: userName(os.Geteuid()), Err: err}
	}
	if err := Full(path, err); errors.As(err, &full) {
		return fmt.Errorf("write to the cache: %w", err)
	}
	return fmt.Errorf("write to the cache: %w; set %s to another directory", err, Env)
}

// Full returns err, as a *FullError of dir if a full disk is what it comes
// from.
func Full(dir string, err error) error {
	var already *FullError
	if err == nil || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) || errors.As(err, &already) {
		return err
	}
	dir, _ = nearest(dir)
	have, _ := Free(dir)
	var st unix.Statfs_t
	noInode := unix.Statfs(dir, &st) == nil && st.Files != 0 && st.Ffree == 0 // some file systems have no limit
	return fmt.Errorf("%w (%w)", &FullError{Dir: dir, Free: have, NoInode: noInode}, err)
}

// nearest is the directory that has path in it, or would if it existed, and
// its owner.
func nearest(path string) (dir string, uid int) {
	for dir = path; ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR || dir == filepath.Dir(dir) {
			return dir, int(st.Uid)
		}
	}
}

func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return fmt.Sprintf("%s (uid %s)", u.Username, id)
	}
	return "uid " + id
}
