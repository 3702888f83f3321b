package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/durable"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Journal is a journal in the directory of an export process.
type Journal struct {
	Volume ident.Volume
	Epoch  ident.Epoch
	// Lost: its epoch was ended without it. Nobody will upload what it holds.
	Lost  bool
	Since time.Time // when it was lost, or last written to the directory of
	Bytes int64     // on the disk
	Dir   string
}

// lostPrefix begins the name of the directory of a lost journal.
const lostPrefix = "lost-"

// Journals lists the journals in dir, the Dir of a [Config], by volume and epoch.
// An export process may be at work there.
func Journals(dir string) ([]Journal, error) {
	volumes, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []Journal
	for _, entry := range volumes {
		id, err := ident.ParseVolume(entry.Name())
		if err != nil || !entry.IsDir() {
			continue
		}
		names, err := os.ReadDir(filepath.Join(dir, entry.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, name := range names {
			j, ok, err := journalAt(filepath.Join(dir, entry.Name(), name.Name()))
			if err != nil {
				return nil, err
			}
			if ok {
				j.Volume = id
				list = append(list, j)
			}
		}
	}
	return list, nil
}

// journalAt describes the journal of a directory; ok is false if its name is not
// that of a journal, or if it has gone meanwhile.
func journalAt(dir string) (j Journal, ok bool, err error) {
	epoch, lost := strings.CutPrefix(filepath.Base(dir), lostPrefix)
	if j.Epoch, err = ident.ParseEpoch(epoch); err != nil {
		return j, false, nil
	}
	j.Lost, j.Dir = lost, dir
	info, err := os.Stat(dir)
	if err == nil {
		j.Since = info.ModTime()
		j.Bytes, err = bytesIn(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return j, false, nil
	}
	return j, err == nil, err
}

// bytesIn sums the sizes of the files in a directory.
func bytesIn(dir string) (n int64, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return n, err
		}
		n += info.Size()
	}
	return n, err
}

// ErrKept refuses to discard a journal that may yet be uploaded.
var ErrKept = errors.New("the journal is in use, or waits for its export process")

// Discard removes a lost journal with all that it holds.
func (j Journal) Discard() error {
	if !j.Lost {
		return fmt.Errorf("%s: %w", j.Dir, ErrKept)
	}
	if err := os.RemoveAll(j.Dir); err != nil {
		return err
	}
	volume := filepath.Dir(j.Dir)
	if err := os.Remove(volume); err == nil { // it was the last thing there
		return durable.SyncDir(filepath.Dir(volume))
	}
	return durable.SyncDir(volume)
}
