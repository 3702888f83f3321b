package swift

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	ncw "github.com/ncw/swift/v2"
	"golang.org/x/sync/errgroup"
)

// Containers implements [Store].
func (c *Client) Containers(ctx context.Context, prefix, marker string, limit int) ([]string, error) {
	var rows []struct {
		Name string `json:"name"`
	}
	r := request{op: "list containers", method: http.MethodGet}
	if err := c.list(ctx, r, prefix, marker, limit, &rows); err != nil {
		return nil, err
	}
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row.Name
	}
	return names, nil
}

// List implements [Store].
func (c *Client) List(ctx context.Context, container, prefix, marker string, limit int) ([]Info, error) {
	var rows []struct {
		Name     string   `json:"name"`
		Hash     string   `json:"hash"`
		Bytes    int64    `json:"bytes"`
		Modified listTime `json:"last_modified"`
	}
	r, err := onContainer("list", http.MethodGet, container)
	if err != nil {
		return nil, err
	}
	if err := c.list(ctx, r, prefix, marker, limit, &rows); err != nil {
		return nil, err
	}
	infos := make([]Info, len(rows))
	for i, row := range rows {
		infos[i] = Info{Name: row.Name, Size: row.Bytes, ETag: row.Hash, Modified: time.Time(row.Modified)}
	}
	return infos, nil
}

// list gets one page of a listing into rows, a pointer to a slice.
func (c *Client) list(ctx context.Context, r request, prefix, marker string, limit int, rows any) (err error) {
	if r.params, err = page(prefix, marker, limit); err != nil {
		return r.fail(ErrRejected, 0, err)
	}
	return c.do(ctx, r, func(a *answer) error { return json.NewDecoder(a).Decode(rows) })
}

// listTime is a time as listings write it: UTC without a zone.
type listTime time.Time

func (t *listTime) UnmarshalJSON(b []byte) error {
	v, err := time.Parse(`"`+ncw.TimeFormat+`"`, string(b))
	*t = listTime(v)
	return err
}

// bulkSize bounds one bulk delete: a proxy takes about 10 ms for each object and
// the answer comes at the end.
const bulkSize = 500

// DeleteMany implements [Store] with Swift's bulk delete, or one by one where a
// cluster does not have it.
func (c *Client) DeleteMany(ctx context.Context, container string, names []string) error {
	for batch := range slices.Chunk(names, bulkSize) {
		err := c.deleteBulk(ctx, container, batch)
		if errors.Is(err, errNoBulk) {
			err = c.deleteEach(ctx, container, batch)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errNoBulk = errors.New("no bulk delete here")

func (c *Client) deleteBulk(ctx context.Context, container string, names []string) error {
	var body strings.Builder
	for _, name := range names {
		if _, err := onObject("delete many", http.MethodPost, container, name); err != nil {
			return err
		}
		body.WriteString((&url.URL{Path: "/" + container + "/" + name}).EscapedPath() + "\n")
	}
	r := request{
		op: "delete many", method: http.MethodPost, container: container, onAccount: true,
		params:  url.Values{"bulk-delete": {"1"}},
		headers: ncw.Headers{"Content-Type": "text/plain", "Accept": "application/json"},
		body:    []byte(body.String()),
	}
	return c.do(ctx, r, func(a *answer) error { return readBulk(a, r) })
}

// readBulk takes the outcome from the body: the status of a bulk delete is
// always 200. Names that were absent are counted as such and are no error.
func readBulk(a *answer, r request) error {
	var result struct {
		Status string      `json:"Response Status"`
		Errors [][2]string // path, status
	}
	body, err := io.ReadAll(io.LimitReader(a, MaxBody))
	if err != nil {
		return err
	}
	if json.Unmarshal(body, &result) != nil || result.Status == "" {
		return r.fail(ErrRejected, a.StatusCode, errNoBulk)
	}
	if strings.HasPrefix(result.Status, "200") && len(result.Errors) == 0 {
		return nil
	}
	status, cause := result.Status, error(nil)
	if len(result.Errors) > 0 {
		status = result.Errors[0][1]
		cause = fmt.Errorf("%d of the objects, the first %s: %s", len(result.Errors), result.Errors[0][0], status)
	}
	number, _, _ := strings.Cut(status, " ")
	code, _ := strconv.Atoi(number)
	return r.fail(kindOf(code), code, cause)
}

func (c *Client) deleteEach(ctx context.Context, container string, names []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, name := range names {
		g.Go(func() error {
			if err := c.Delete(ctx, container, name); !errors.Is(err, ErrNotFound) {
				return err
			}
			return nil
		})
	}
	return g.Wait()
}
