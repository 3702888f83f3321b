package authority_test

import (
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
)

func openFile(t *testing.T, dir string) *authority.File {
	t.Helper()
	f, err := authority.OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFileConforms(t *testing.T) {
	authoritytest.Conformance(t, func(t *testing.T) func() authority.Authority {
		dir := t.TempDir()
		return func() authority.Authority { return openFile(t, dir) }
	})
}
