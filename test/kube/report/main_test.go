package main

import (
	"strings"
	"testing"
)

const report = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite>
<testcase name="[SynchronizedBeforeSuite]" status="passed" time="2"></testcase>
<testcase name="[It] [sig-storage] External Storage [Driver: csi.swiftblock.dev] [Testpattern: Dynamic PV (ext4)] volumes should store data" status="passed" time="31.4"></testcase>
<testcase name="[It] [sig-storage] External Storage [Driver: csi.swiftblock.dev] [Testpattern: Dynamic PV (ntfs)] [Feature:Windows] volumes should store data" status="skipped" time="0.1"><skipped message="skipped - Driver does not support ntfs"></skipped></testcase>
<testcase name="[It] [sig-storage] External Storage [Driver: csi.swiftblock.dev] [Testpattern: Dynamic PV (fat)] volumes should store data" status="skipped" time="0.1"><skipped message="skipped - Driver does not support fat"></skipped></testcase>
<testcase name="[It] [sig-storage] External Storage [Driver: csi.swiftblock.dev] [Testpattern: Dynamic PV (xfs)] [Slow] volumeIO should write files" status="failed" time="7"><failure type="failed">
[FAILED] it is a|pity
more</failure></testcase>
<testcase name="[It] [sig-storage] External Storage [Driver: csi.swiftblock.dev] [Testpattern: Dynamic PV (default fs)] subPath should be left out" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] [sig-storage] External Storage [Driver: csi.swiftblock.dev] [Testpattern: Dynamic PV (xfs)] subPath should be left out" status="failed" time="0"><failure type="failed">before it was left out</failure></testcase>
</testsuite></testsuites>`

func TestDocument(t *testing.T) {
	specs, err := read(strings.NewReader(report))
	if err != nil {
		t.Fatal(err)
	}
	said, err := document(merge(nil, specs), "# why\nshould be left\tit is another's\nntfs\tfails: it is old\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| volumes | Dynamic PV (ext4) | should store data | passed | 31 |",
		"| volumeIO | Dynamic PV (xfs) | should write files | **failed**: [FAILED] it is a\\|pity | 7 |",
		"| Driver does not support fat | 1 | volumes | Dynamic PV (fat) |",
		"| it is old | 1 | volumes | Dynamic PV (ntfs) |",
		"| failed | 1 |", "| passed | 1 |", "| skipped | 1 |", "| left out, as it fails | 1 |", "| left out | 2 |",
		"| it is another's | 2 | subPath | Dynamic PV (default fs), Dynamic PV (xfs) |",
	} {
		if !strings.Contains(said, want+"\n") {
			t.Errorf("the document has no line %q:\n%s", want, said)
		}
	}
	if strings.Contains(said, "should be left out") {
		t.Error("a spec that did not run is in the table of those that did")
	}
	for _, reasons := range []string{"no tab\n", "(\tno expression\n"} {
		if _, err := document(specs, reasons); err == nil {
			t.Errorf("%q is taken for a reason", reasons)
		}
	}
}

// A second run of some specs replaces those, and leaves the others as they were.
func TestMerge(t *testing.T) {
	first := []spec{{name: "a", verdict: "failed", why: "w"}, {name: "b", verdict: "passed"}}
	second := []spec{{name: "a", verdict: "passed"}, {name: "b", verdict: "skipped"}, {name: "c", verdict: "passed"}}
	got := merge(first, second)
	var said []string
	for _, s := range got {
		said = append(said, s.name+" "+s.verdict)
	}
	if want := "a passed, b passed, c passed"; strings.Join(said, ", ") != want {
		t.Errorf("merged: %s, want %s", strings.Join(said, ", "), want)
	}
}

func TestNoReport(t *testing.T) {
	for _, text := range []string{"", "what", "<testsuites></testsuites>"} {
		if _, err := read(strings.NewReader(text)); err == nil {
			t.Errorf("%q is taken for a report", text)
		}
	}
}
