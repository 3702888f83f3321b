package swift

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
)

// Credentials say where a Swift account is and who we are. Which fields are set
// decides how the client logs in:
//
//	v1             Version 1, AuthURL, User, Key
//	v3 password    AuthURL, User or UserID, Key, their domain, and a project
//	v3 app. cred.  AuthURL, AppID (or AppName with User and its domain), AppSecret
type Credentials struct {
	Version int    // of the identity API: 1 or 3
	AuthURL string // of the identity service

	User, UserID             string
	UserDomain, UserDomainID string
	Key                      string // password, or key with version 1

	AppID, AppName, AppSecret string // application credential

	Project, ProjectID             string
	ProjectDomain, ProjectDomainID string

	Region    string // "": the first that the catalogue names
	Interface string // endpoint of the catalogue: "" or public, internal, admin

	CAFile   string // PEM bundle to trust instead of the system's
	Insecure bool   // do not verify the server's certificate
}

// String names the account without its secrets.
func (c Credentials) String() string {
	who := c.User
	for _, s := range []string{c.UserID, c.AppName, c.AppID} {
		if s != "" {
			who = s
		}
	}
	return fmt.Sprintf("%s at %s (v%d)", who, c.AuthURL, c.Version)
}

// GoString, LogValue and String hide the secrets from every way of printing.
func (c Credentials) GoString() string { return c.String() }

// LogValue implements [slog.LogValuer].
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Account names the account that the credentials are for, in 32 hexadecimal digits
// that hold nothing secret: where one logs in and as whom. It stays the same when
// the secret changes.
func (c Credentials) Account() string {
	c.Key, c.AppSecret, c.CAFile, c.Insecure = "", "", "", false
	type fields Credentials // without the methods that hide some
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", fields(c)))
	return hex.EncodeToString(sum[:16])
}

// check finds what is missing before anybody asks the network.
func (c Credentials) check() error {
	u, err := url.Parse(c.AuthURL)
	switch {
	case c.AuthURL == "":
		return errors.New("no authentication URL")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("authentication URL %q: want http(s)://host[:port]/path", c.AuthURL)
	case c.Version != 1 && c.Version != 3:
		return fmt.Errorf("identity API version %d: versions 1 and 3 are known", c.Version)
	case c.AppSecret != "" && c.AppID == "" && c.AppName == "":
		return errors.New("an application credential needs its id, or its name and user")
	case c.AppSecret != "":
		return nil
	case c.User == "" && c.UserID == "":
		return errors.New("no user")
	case c.Key == "":
		return errors.New("no password or key")
	}
	return nil
}
