package swift_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

func TestAccount(t *testing.T) {
	r := newRig(t, swift.Options{})
	before, err := r.Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Put(t.Context(), container, "o", make([]byte, 1000), swift.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	a, err := r.Account(t.Context())
	if err != nil || a.Used != before.Used+1000 {
		t.Errorf("%+v, %v; want 1000 bytes more than %+v", a, err, before)
	}
	if age := time.Since(a.Date); age.Abs() > time.Minute {
		t.Errorf("the answer is of %v, %v ago", a.Date, age)
	}
	if free, limited := a.Free(); limited {
		t.Errorf("without a quota there are %d bytes free", free)
	}
	for _, c := range []struct {
		used, quota string
		free        int64
		limited     bool
	}{
		{"3000", "10000", 7000, true},
		{"10001", "10000", 0, true},
		{"3000", "", 0, false},
		{"3000", "a lot", 0, false},
		{"3000", "-1", 0, false},
	} {
		r.next(1, http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Account-Bytes-Used", c.used)
			w.Header().Set("X-Account-Meta-Quota-Bytes", c.quota)
			io.WriteString(w, "[]")
		})
		a, err := r.Account(t.Context())
		if free, limited := a.Free(); err != nil || free != c.free || limited != c.limited {
			t.Errorf("%+v: %+v, %v: %d bytes free, %t", c, a, err, free, limited)
		}
	}
}
