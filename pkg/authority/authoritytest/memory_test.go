package authoritytest

import (
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
)

func TestMemoryConforms(t *testing.T) {
	Conformance(t, func(*testing.T) func() authority.Authority {
		m := &Memory{}
		return func() authority.Authority { return m }
	})
}
