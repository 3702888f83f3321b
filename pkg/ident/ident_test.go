package ident

import "testing"

func TestEpochHasOneSpelling(t *testing.T) {
	e := NewEpoch(42)
	got, err := ParseEpoch(e.String())
	if err != nil || got != e {
		t.Fatalf("ParseEpoch(%q) = %v, %v", e, got, err)
	}
	for _, s := range []string{"", "1-2", "0000002A-0000000000000001", "+000002a-0000000000000001", "0000002a-0000000000000001 ", "0000002a"} {
		if e, err := ParseEpoch(s); err == nil {
			t.Errorf("ParseEpoch(%q) = %v, want an error", s, e)
		}
	}
}

func TestParseRefusesWhatIsNoIdentity(t *testing.T) {
	if _, err := ParseVolume(string(NewVolume())); err != nil {
		t.Error(err)
	}
	if _, err := ParseSnapshot(string(NewSnapshot())); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"", "../../../../../../etc/passwd0000", "0123456789ABCDEF0123456789abcdef", "0123456789abcdef0123456789abcde"} {
		if _, err := ParseVolume(s); err == nil {
			t.Errorf("ParseVolume(%q) accepted", s)
		}
		if _, err := ParseSnapshot(s); err == nil {
			t.Errorf("ParseSnapshot(%q) accepted", s)
		}
	}
}
