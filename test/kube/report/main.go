// Command report prints the reports of Kubernetes' storage suite (test/kube/suite.sh) as a
// document: totals, each spec that ran with its verdict and seconds, and why the others were
// skipped. Where a spec is in several reports, that of the last file counts.
//
//	go run ./test/kube/report [-of TEXT] FILE.xml... >test/kube/results.md
//
// The text says what was tested, where and when, as test/kube/suite.sh writes it beside its
// reports. What is left out is told with the reason of test/kube/suite/left-out; a reason
// that begins with "fails: " is of a spec that would run.
package main

import (
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

const leftOut = "test/kube/suite/left-out"

func main() {
	of := flag.String("of", "", "what was tested, where and when")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: report [-of TEXT] FILE.xml...: the files that test/kube/suite.sh says it has written")
		os.Exit(2)
	}
	if err := run(os.Stdout, *of, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, of string, files []string) error {
	var all []spec
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		specs, err := read(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all = merge(all, specs)
	}
	reasons, err := os.ReadFile(leftOut)
	if err != nil {
		return fmt.Errorf("why specs are left out: %w", err)
	}
	said, err := document(all, string(reasons))
	if err != nil {
		return fmt.Errorf("%s: %w", leftOut, err)
	}
	said = heading(of, len(files)) + said
	_, err = io.WriteString(w, said)
	return err
}

// A spec is one test of the suite with one kind of volume.
type spec struct {
	name    string // as the suite has it
	suite   string // provisioning, subPath ...
	pattern string // the kind of volume: Dynamic PV (block volmode) ...
	text    string
	verdict string // passed, failed, skipped ...
	why     string // of a skip or a failure, one line
	seconds float64
}

// A spec that a run did not have in its focus is skipped without a reason.
func (s spec) chosen() bool { return s.verdict != "skipped" || s.why != "" }

// junit is as much of the reports as we need.
type junit struct {
	Cases []struct {
		Name    string  `xml:"name,attr"`
		Status  string  `xml:"status,attr"`
		Time    float64 `xml:"time,attr"`
		Skipped *struct {
			Message string `xml:"message,attr"`
		} `xml:"skipped"`
		Failure string `xml:"failure"`
		Error   string `xml:"error"`
	} `xml:"testsuite>testcase"`
}

var specName = regexp.MustCompile(`^\[It\].*External Storage \[Driver: [^\]]*\] \[Testpattern: ([^\]]*)\](?: ?\[[^\]]*\])* ?(\S+) (.*)$`)

// read takes in one report.
func read(r io.Reader) ([]spec, error) {
	var report junit
	if err := xml.NewDecoder(r).Decode(&report); err != nil {
		return nil, fmt.Errorf("is no JUnit report: %w", err)
	}
	var specs []spec
	for _, c := range report.Cases {
		part := specName.FindStringSubmatch(c.Name)
		if part == nil {
			continue // set-up of the whole, or another suite
		}
		s := spec{name: c.Name, pattern: part[1], suite: part[2], text: part[3], verdict: c.Status, seconds: c.Time}
		s.why = c.Failure + c.Error
		if c.Skipped != nil {
			s.why = strings.TrimPrefix(strings.TrimPrefix(c.Skipped.Message, "skipped"), " - ")
		}
		s.why = oneLine(s.why)
		specs = append(specs, s)
	}
	if len(specs) == 0 {
		return nil, fmt.Errorf("has no spec of the suite")
	}
	return specs, nil
}

// oneLine keeps the first line with anything in it, and not more than a table's cell holds.
func oneLine(s string) string {
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			if runes := []rune(line); len(runes) > 200 {
				line = string(runes[:200]) + "…"
			}
			return strings.ReplaceAll(line, "|", "\\|")
		}
	}
	return ""
}

// merge puts the specs that a later run had in its focus in the place of their former selves.
func merge(all, later []spec) []spec {
	at := map[string]int{}
	for i, s := range all {
		at[s.name] = i
	}
	for _, s := range later {
		i, known := at[s.name]
		switch {
		case !known:
			at[s.name] = len(all)
			all = append(all, s)
		case s.chosen():
			all[i] = s
		}
	}
	return all
}

// document is what is printed. What is left out now gets its reason from the text of left-out,
// also where a former run had it: lines of a regular expression, a tab and the reason.
func document(specs []spec, reasons string) (string, error) {
	for line := range strings.Lines(reasons) {
		expression, why, found := strings.Cut(strings.TrimSpace(line), "\t")
		if strings.HasPrefix(line, "#") {
			continue
		}
		which, err := regexp.Compile(expression)
		if err != nil || !found {
			return "", fmt.Errorf("no expression, tab and reason: %q", line)
		}
		for i, s := range specs {
			if which.MatchString(s.name) {
				specs[i].verdict, specs[i].why = left, why
				if what, fails := strings.CutPrefix(why, "fails: "); fails {
					specs[i].verdict, specs[i].why = failing, what
				}
			}
		}
	}
	slices.SortStableFunc(specs, func(a, b spec) int {
		return strings.Compare(strings.ToLower(a.suite+"\x00"+a.pattern+"\x00"+a.text), strings.ToLower(b.suite+"\x00"+b.pattern+"\x00"+b.text))
	})
	var b strings.Builder
	totals(&b, specs)
	ran(&b, specs)
	b.WriteString("\n## What was skipped\n\nBy the suite itself, for the reason that it gives.\n\n")
	grouped(&b, specs, "skipped")
	b.WriteString("\n## What was left out\n\nBy us: [left-out](suite/left-out).\n\n")
	grouped(&b, specs, left)
	b.WriteString("\n## What fails\n\nAnd is left out therefore, for what we think is not the driver's.\n\n")
	grouped(&b, specs, failing)
	return b.String(), nil
}

// The verdicts on what we leave out.
const (
	left    = "left out"
	failing = "left out, as it fails"
)

func heading(of string, reports int) string {
	if of == "" {
		of = "What was tested when is not known"
	}
	from := "one report"
	if reports > 1 {
		from = fmt.Sprintf("%d reports", reports)
	}
	return fmt.Sprintf("# Kubernetes' storage suite\n\n%s. Written by `go run ./test/kube/report`, from %s of test/kube/suite.sh.\n\n", strings.TrimSpace(of), from)
}

func totals(b *strings.Builder, specs []spec) {
	count := map[string]int{}
	var seconds float64
	for _, s := range specs {
		verdict := s.verdict
		if !s.chosen() {
			verdict = "not asked for"
		}
		count[verdict]++
		seconds += s.seconds
	}
	b.WriteString("| verdict | specs |\n|---|---|\n")
	for _, verdict := range sortedKeys(count) {
		fmt.Fprintf(b, "| %s | %d |\n", verdict, count[verdict])
	}
	fmt.Fprintf(b, "\nOne after the other the specs took %.0f minutes; several run at a time.\n", seconds/60)
}

func ran(b *strings.Builder, specs []spec) {
	b.WriteString("\n## What ran\n\n| suite | volume | spec | verdict | s |\n|---|---|---|---|---|\n")
	for _, s := range specs {
		if s.verdict == "skipped" || s.verdict == left || s.verdict == failing {
			continue
		}
		verdict := s.verdict
		if verdict != "passed" {
			verdict = "**" + verdict + "**: " + s.why
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %.0f |\n", s.suite, s.pattern, s.text, verdict, s.seconds)
	}
}

// grouped prints by reason what has not run: there is a spec for each volume and test.
func grouped(b *strings.Builder, specs []spec, verdict string) {
	type group struct {
		specs            int
		suites, patterns map[string]int
	}
	groups := map[string]*group{}
	for _, s := range specs {
		if s.verdict != verdict || !s.chosen() {
			continue
		}
		g := groups[s.why]
		if g == nil {
			g = &group{suites: map[string]int{}, patterns: map[string]int{}}
			groups[s.why] = g
		}
		g.specs++
		g.suites[s.suite]++
		g.patterns[s.pattern]++
	}
	b.WriteString("| reason | specs | of | volumes |\n|---|---|---|---|\n")
	for _, why := range sortedKeys(groups) {
		g := groups[why]
		fmt.Fprintf(b, "| %s | %d | %s | %s |\n", why, g.specs, strings.Join(sortedKeys(g.suites), ", "), strings.Join(sortedKeys(g.patterns), ", "))
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
