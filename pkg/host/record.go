package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// iscsiadm takes settings as arguments only ("-o update -n name -v value"), and
// arguments are readable by every process of the host. So iscsiadm makes the
// record, in the format and place of its version, and the lines that we want
// otherwise are rewritten in the file: readable by root alone, like the record
// itself. The file is replaced by a rename, so that iscsid, which reads it again
// after its own restart, never sees half of it.
//
//	<database>/nodes/<iqn>/<address>,<port>[,<tpgt>][/<interface>]

// databases are the places of open-iscsi's database, by distribution.
var databases = []string{"etc/iscsi", "var/lib/iscsi"}

// settings are the lines of a node record that must not keep their defaults.
func (s Session) settings() map[string]string {
	return map[string]string{
		// After a reboot nobody may log in by himself: the volume may belong to
		// another node by then (R5).
		"node.startup":         "manual",
		"node.conn[0].startup": "manual",

		"node.session.auth.authmethod": "CHAP",
		"node.session.auth.username":   s.CHAPUser,
		"node.session.auth.password":   s.CHAPSecret,

		// While `export` is away I/O waits for ever; it never fails because a
		// timer ran out (P8, P9).
		"node.session.timeo.replacement_timeout": "-1",
		// A dead `export` resets its connections at once. NOPs only find one
		// that hangs, and one that is merely slow must not be cut off.
		"node.conn[0].timeo.noop_out_interval": "5",
		"node.conn[0].timeo.noop_out_timeout":  "30",
		// iscsid notices only by this timer that `export` died during a login.
		"node.conn[0].timeo.login_timeout": "5",
		"node.session.scan":                "auto",
	}
}

// configure writes the settings into the record that iscsiadm just made.
func (i *Initiator) configure(s Session) error {
	path, err := i.record(s)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// Not in the directory of the record, where it would pass for another record,
	// and under one name, so that what a killed process left is found again.
	temp, err := os.OpenFile(draft(filepath.Dir(filepath.Dir(filepath.Dir(path))), s.Volume), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = temp.Write(rewrite(old, s.settings()))
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return os.Rename(temp.Name(), path)
}

// draft is where a record of v is written before it takes its place.
func draft(database string, v ident.Volume) string {
	return filepath.Join(database, ".swiftblock-"+string(v))
}

// record finds the file of the record for s.
func (i *Initiator) record(s Session) (string, error) {
	portal, err := netip.ParseAddrPort(s.Portal)
	if err != nil {
		return "", err
	}
	stem := fmt.Sprintf("%s,%d", portal.Addr(), portal.Port())
	for _, database := range databases {
		directory := filepath.Join(i.Root, "/", database, "nodes", s.IQN)
		for _, pattern := range []string{stem, stem + ",*", stem + ",*/*"} {
			found, err := filepath.Glob(filepath.Join(directory, pattern))
			if err != nil {
				return "", err
			}
			for _, path := range found {
				if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
					return path, nil
				}
			}
		}
	}
	return "", fmt.Errorf("the node record that iscsiadm made for %s is in none of %s", s.IQN, strings.Join(databases, ", "))
}

// rewrite returns the record with the settings in place of the lines that set
// the same names, and those that it lacks before its end mark.
func rewrite(record []byte, settings map[string]string) []byte {
	var out bytes.Buffer
	write := func(names ...string) {
		for _, name := range names {
			fmt.Fprintf(&out, "%s = %s\n", name, settings[name])
		}
	}
	lacking := maps.Clone(settings)
	for line := range strings.Lines(string(record)) {
		name, _, _ := strings.Cut(line, " = ")
		if _, ours := settings[name]; ours {
			write(name)
			delete(lacking, name)
			continue
		}
		if strings.HasPrefix(line, "# END RECORD") {
			write(slices.Sorted(maps.Keys(lacking))...)
		}
		out.WriteString(line)
	}
	return out.Bytes()
}

// forget removes the node records of v except those of the target keep, and what
// an interrupted configure left.
func (i *Initiator) forget(ctx context.Context, v ident.Volume, keep string) error {
	for _, database := range databases {
		database = filepath.Join(i.Root, "/", database)
		if err := os.Remove(draft(database, v)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		targets, err := os.ReadDir(filepath.Join(database, "nodes"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, target := range targets {
			iqn := target.Name()
			if iqn == keep || !strings.Contains(iqn, string(v)) || !iqnPattern.MatchString(iqn) {
				continue
			}
			if _, err := i.iscsiadm(ctx, "-m", "node", "-T", iqn, "-o", "delete"); err != nil && exitCode(err) != iscsiadmNothingFound {
				return err
			}
		}
	}
	return nil
}
