package class

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
	p, err := Parse(nil)
	want := Parameters{Mutable: Mutable{RPO: time.Minute}, JournalSize: 10 << 30, FSType: "ext4"}
	if err != nil || p != want {
		t.Fatalf("Parse(nil) = %+v, %v; want %+v", p, err, want)
	}
}

func TestParse(t *testing.T) {
	p, err := Parse(map[string]string{
		"rpo": "snapshot-only", "journalSize": "1Gi", "fsType": "xfs", "chunkSize": "8Mi",
		"iops": "1k", "bandwidth": "50Mi", "uploadBandwidth": "none",
	})
	if want := (Parameters{Mutable: Mutable{IOPS: 1000, Bandwidth: 50 << 20}, JournalSize: 1 << 30, FSType: "xfs"}); err != nil || p != want {
		t.Fatalf("Parse = %+v, %v; want %+v", p, err, want)
	}
}

func TestRefusals(t *testing.T) {
	for name, value := range map[string]string{
		"rpo": "0s", "journalSize": "1Mi", "fsType": "ntfs", "chunkSize": "4Mi", "compression": "lz4", "encryption": "aes", "Rpo": "60s",
		"iops": "0", "bandwidth": "1Ki", "uploadBandwidth": "2Ti",
	} {
		_, err := Parse(map[string]string{name: value})
		var refused *Error
		if !errors.As(err, &refused) || refused.Name != name {
			t.Errorf("%s=%s: error %v does not name the parameter", name, value, err)
		}
	}
	if _, err := Parse(map[string]string{"color": "blue"}); err == nil || !strings.Contains(err.Error(), "rpo, iops, bandwidth, uploadBandwidth, journalSize, fsType") {
		t.Errorf("error %v does not list the known parameters", err)
	}
}

func TestCheckMutable(t *testing.T) {
	if err := CheckMutable(map[string]string{"rpo": "5s", "iops": "none"}); err != nil {
		t.Error(err)
	}
	for name, value := range map[string]string{"journalSize": "20Gi", "fsType": "xfs", "color": "blue", "rpo": "soon"} {
		var refused *Error
		if err := CheckMutable(map[string]string{name: value}); !errors.As(err, &refused) || refused.Name != name {
			t.Errorf("%s=%s: error %v does not name the parameter", name, value, err)
		}
	}
}
