package host

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
)

// ErrInvalid marks input that must not reach a command line.
var ErrInvalid = errors.New("invalid")

var (
	// RFC 7143 §4.2.7.4, lower case only: what we and the kernel compare bytewise.
	iqnPattern = regexp.MustCompile(`^iqn\.[0-9]{4}-[0-9]{2}\.[a-z0-9][a-z0-9.-]*(:[a-z0-9][a-z0-9.:-]*)?$`)
	// A line of a node record is "name = value", so blanks and newlines would
	// let a value say more than itself.
	wordPattern = regexp.MustCompile(`^[!-~]{1,223}$`)
	// One option of "mount -o": a comma would be a second one.
	optionPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.:=/%+-]{0,255}$`)
	// Where SELinux is enforced, kubelet adds this one (CSIDriver's seLinuxMount). Within
	// the quotes mount(8) takes a comma for part of the label.
	contextPattern = regexp.MustCompile(`^context="[A-Za-z0-9_.:,-]{1,255}"$`)
)

// refusedOptions change what is mounted, or where, rather than how (with them a
// storage class could reach the host's files), or let a volume's content gain
// rights on the host.
var refusedOptions = map[string]bool{
	"bind": true, "rbind": true, "move": true, "remount": true,
	"loop": true, "offset": true, "sizelimit": true, "helper": true,
	"dev": true, "suid": true,
	// Other devices of the host: a log or real-time device, a journal, a hash device.
	"logdev": true, "rtdev": true, "journal_path": true, "journal_dev": true,
	"verity.hashdevice": true,
}

func (s Session) validate() error {
	if _, err := netip.ParseAddrPort(s.Portal); err != nil {
		return fmt.Errorf("portal %.64q: %w: %w", s.Portal, ErrInvalid, err)
	}
	if len(s.IQN) > 223 || !iqnPattern.MatchString(s.IQN) {
		return fmt.Errorf("target name %.64q: %w", s.IQN, ErrInvalid)
	}
	if s.Volume == "" || !strings.Contains(s.IQN, string(s.Volume)) {
		return fmt.Errorf("target name %q does not name the volume %.64q: %w", s.IQN, s.Volume, ErrInvalid)
	}
	if s.LUN < 0 || s.LUN > 255 {
		return fmt.Errorf("LUN %d: %w", s.LUN, ErrInvalid)
	}
	if !wordPattern.MatchString(s.Serial) {
		return fmt.Errorf("serial number %.64q: %w", s.Serial, ErrInvalid)
	}
	if !wordPattern.MatchString(s.CHAPUser) || !wordPattern.MatchString(s.CHAPSecret) {
		return fmt.Errorf("CHAP user or secret: %w: want 1 to 223 printable characters without blanks", ErrInvalid)
	}
	return nil
}

// checkPath refuses paths that are not absolute and in their shortest form.
func checkPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" || len(path) > 4095 || strings.ContainsAny(path, "\x00\n") {
		return fmt.Errorf("path %.128q: %w: want an absolute path in its shortest form", path, ErrInvalid)
	}
	return nil
}

// CheckMountOptions refuses options that are not one plain word, the label of SELinux
// aside, and those that change what is mounted.
func CheckMountOptions(options []string) error {
	for _, option := range options {
		if contextPattern.MatchString(option) {
			continue
		}
		name, _, _ := strings.Cut(option, "=")
		if !optionPattern.MatchString(option) || refusedOptions[name] || strings.HasPrefix(strings.ToLower(name), "x-") {
			return fmt.Errorf("mount option %.64q: %w", option, ErrInvalid)
		}
	}
	return nil
}
