package e2e

import (
	"strings"
	"testing"
)

// TestManyReaders restores a snapshot of a mounted file system, so that its journal
// must be replayed, and has two nodes read it at once: ROX. Each replays into its
// own scratch journal, which outlives its export process and never reaches Swift.
func TestManyReaders(t *testing.T) {
	onlyFull(t)
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			first := startMachine(t)
			second := first.startSecond()
			source := first.use("source", spec{fsType: fsType})
			first.must(source.write("before", true))
			snapshot := source.snapshot("cut")
			first.must(source.write("after", true))

			restored := first.make("restored", spec{fsType: fsType, snapshot: snapshot})
			restored.reader = true
			readers := []volume{restored, restored.on(second)}
			objects := len(restored.objects())
			for _, v := range readers {
				v.mount()
			}
			for _, v := range readers {
				v.expect("before")
				if found, err := v.try("ls %s/after", v.pod()); err == nil {
					t.Errorf("%s has what was written after the snapshot: %s", v.machine.name, found)
				}
				if err := v.write("more", true); err == nil || !strings.Contains(err.Error(), "Read-only") {
					t.Errorf("%s writes: %v", v.machine.name, err)
				}
				v.kill("export")
				v.start("export")
				v.expect("before")
			}
			for _, v := range readers {
				v.unmount()
			}
			if now := len(restored.objects()); now != objects {
				t.Errorf("readers have made %d objects of %d", now, objects)
			}

			// Nobody reads it any more: it may be written, and its source is as it was.
			restored.reader = false
			restored.mount()
			restored.expect("before")
			first.must(restored.write("more", true))
			restored.checked()
			source.expect("before", "after")
			source.checked()
			for _, m := range []*machine{first, second} {
				m.nothingIsLeft(restored.id)
				m.noErrors()
			}
			first.removeSnapshot(snapshot)
			restored.remove()
			source.remove()
		})
	}
}
