package swift_test

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/internal/gather"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

func TestMetrics(t *testing.T) {
	r := newRig(t, swift.Options{})
	r.put(t, "o", make([]byte, 1000))
	r.next(1, http.MethodGet, status(503))
	if _, err := r.Get(t.Context(), container, "o", swift.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Head(t.Context(), container, "absent", swift.HeadOptions{}); !errors.Is(err, swift.ErrNotFound) {
		t.Fatal(err)
	}
	r.next(1, http.MethodPut, func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		drop(w, req)
	})
	r.put(t, "o", make([]byte, 1000))
	if _, err := r.Get(t.Context(), container, "o", swift.GetOptions{Off: 100, Len: 50}); err != nil {
		t.Fatal(err)
	}
	got := gather.Values(t, r.Client)
	want := map[string]float64{
		"swiftblock_store_requests_total create container 201":       1,
		"swiftblock_store_requests_total put 201":                    2,
		"swiftblock_store_requests_total put none":                   1,
		"swiftblock_store_requests_total get 503":                    1,
		"swiftblock_store_requests_total get 200":                    1,
		"swiftblock_store_requests_total get 206":                    1,
		"swiftblock_store_requests_total head 404":                   1,
		"swiftblock_store_request_duration_seconds get":              3,
		"swiftblock_store_request_duration_seconds head":             1,
		"swiftblock_store_request_duration_seconds put":              3,
		"swiftblock_store_request_duration_seconds create container": 1,
		"swiftblock_store_retries_total get":                         1,
		"swiftblock_store_retries_total put":                         1,
		"swiftblock_store_log_ins_total ok":                          1,
		"swiftblock_store_credentials_refused":                       0,
		"swiftblock_store_body_bytes_total sent":                     3000,
		"swiftblock_store_body_bytes_total received":                 1050,
		"swiftblock_store_requests_in_flight":                        0,
		"swiftblock_store_requests_waiting":                          0,
		"swiftblock_store_broken reading":                            0,
		"swiftblock_store_broken changing":                           0,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
