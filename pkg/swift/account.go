package swift

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Account is how full an account is.
type Account struct {
	Used  int64 // bytes stored, as the cluster last counted them
	Quota int64 // bytes that may be stored; 0: no limit is known
	// Date is when the answer was made, by the store's clock to the second; zero if
	// it does not say.
	Date time.Time
}

// Free returns how many bytes there is room for; limited is false if nobody says.
func (a Account) Free() (bytes int64, limited bool) {
	if a.Quota == 0 {
		return 0, false
	}
	return max(a.Quota-a.Used, 0), true
}

// The headers of an account. The quota is that of Swift's account_quotas; an
// operator may enforce others that are shown nowhere.
const (
	usedHeader  = "X-Account-Bytes-Used"
	quotaHeader = "X-Account-Meta-Quota-Bytes"
)

// Account asks how full the account is. It is no HEAD: to that, and to a listing of nothing
// that is not JSON, Swift's proxy sends the end of a chunked body, which belongs to no answer.
func (c *Client) Account(ctx context.Context) (account Account, err error) {
	r := request{op: "get account", method: http.MethodGet, params: url.Values{"format": {"json"}, "limit": {"1"}}}
	err = c.do(ctx, r, func(a *answer) error {
		account = Account{Used: count(a, usedHeader), Quota: count(a, quotaHeader)}
		account.Date, _ = http.ParseTime(a.Header.Get("Date"))
		_, err := io.Copy(io.Discard, a) // for the connection's next request
		return err
	})
	return account, err
}

// count reads a header that is a number of bytes; 0 for one that is absent or is
// none: what a proxy made of it limits nobody.
func count(a *answer, header string) int64 {
	n, err := strconv.ParseInt(a.Header.Get(header), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
