package preflight

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
)

const (
	multipathFile = "/etc/multipath.conf"
	// remedyMultipath has a line for each brace, as multipathd wants it. A product is
	// named for the sake of old ones, which compare it in any case.
	remedyMultipath = `printf '\nblacklist {\n device {\n  vendor "` + disk.Vendor + `"\n  product ".*"\n }\n}\n' >>` + multipathFile + `; multipathd reconfigure`
)

// multipath looks whether multipathd would make a device of its own of our LUNs.
// A volume has one path, so two of the values of find_multipaths leave it alone,
// too, but only as long as nobody changes them.
func (n Node) multipath() Result {
	if n.running("multipathd") == "" {
		return ok("multipathd does not run")
	}
	text, err := n.read(multipathFile)
	if err != nil {
		return warning(remedyMultipath, "multipathd runs, and its configuration cannot be read (%v): whether it leaves our devices alone depends on its defaults", err)
	}
	files, _ := filepath.Glob(n.path("/etc/multipath/conf.d/*.conf"))
	slices.Sort(files)
	for _, file := range files {
		if more, err := n.read(strings.TrimPrefix(file, strings.TrimSuffix(n.path("/"), "/"))); err == nil {
			text += "\n" + more
		}
	}
	config := parseMultipath(text)
	switch {
	case config.excepted:
		return failure("take the exception for "+disk.Vendor+" out of blacklist_exceptions", "blacklist_exceptions let multipathd take our devices")
	case config.blacklisted:
		return ok("multipathd leaves devices of vendor %s alone", disk.Vendor)
	}
	switch config.find {
	case "yes", "on", "strict":
		return warning(remedyMultipath, "multipathd leaves our devices alone only because of find_multipaths %s", config.find)
	case "":
		return warning(remedyMultipath, "multipathd runs without a stanza for our devices: whether it leaves them alone depends on its defaults")
	}
	return failure(remedyMultipath, "multipathd will take our devices: find_multipaths is %s, and no blacklist names vendor %s", config.find, disk.Vendor)
}

// multipathConfig is what of multipath.conf(5) decides about our devices.
type multipathConfig struct {
	blacklisted, excepted bool
	find                  string // find_multipaths; "": not set
}

// multipathToken is a comment, which begins anywhere outside of quotes, a string, a
// brace or a word.
var multipathToken = regexp.MustCompile(`[#!].*|"[^"]*"|[{}]|[^\s{}"#!]+`)

// parseMultipath reads multipath.conf(5), which goes by lines: each begins a section,
// ends one, or gives a keyword its value. What else is on the line multipathd ignores, so
// that a stanza on a single line is none.
func parseMultipath(text string) (config multipathConfig) {
	var sections []string
	for line := range strings.Lines(text) {
		tokens := multipathToken.FindAllString(line, -1)
		if i := slices.IndexFunc(tokens, func(t string) bool { return strings.ContainsAny(t[:1], "#!") }); i >= 0 {
			tokens = tokens[:i]
		}
		switch {
		case len(tokens) > 0 && tokens[0] == "}":
			sections = sections[:max(0, len(sections)-1)]
		case len(tokens) < 2:
		case tokens[1] == "{":
			sections = append(sections, tokens[0])
		default:
			config.take(strings.Join(sections, "/"), tokens[0], strings.Trim(tokens[1], `"`))
		}
	}
	return config
}

func (c *multipathConfig) take(section, key, value string) {
	ours := false
	switch key {
	case "vendor":
		ours = matches(value, disk.Vendor)
	case "devnode":
		ours = matches(value, "sda") && matches(value, "sdz")
	case "protocol":
		ours = matches(value, "scsi:iscsi")
	}
	switch section {
	case "defaults":
		if key == "find_multipaths" {
			c.find = value
		}
	case "blacklist", "blacklist/device":
		c.blacklisted = c.blacklisted || ours
	case "blacklist_exceptions", "blacklist_exceptions/device":
		c.excepted = c.excepted || ours && key == "vendor"
	}
}

// matches tells whether multipathd takes s for the pattern, an extended regular
// expression. What does not compile matches nothing.
func matches(pattern, s string) bool {
	// A leading ! negates.
	if rest, negated := strings.CutPrefix(pattern, "!"); negated {
		return !matches(rest, s)
	}
	re, err := regexp.CompilePOSIX(pattern)
	return err == nil && re.MatchString(s)
}
