package swift

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of failures, for errors.Is.
var (
	ErrNotFound     = errors.New("not found")
	ErrExists       = errors.New("exists already")
	ErrNotEmpty     = errors.New("container is not empty")
	ErrUnauthorized = errors.New("credentials refused")
	ErrQuota        = errors.New("quota exceeded")
	ErrRange        = errors.New("range outside the object")
	ErrUnavailable  = errors.New("object store unavailable") // it may work later
	ErrRejected     = errors.New("request rejected")         // it will not work later
)

// remedies tell an administrator what to do about a kind of failure.
var remedies = map[error]string{
	ErrUnauthorized: "check user, key and project of the credentials",
	ErrQuota:        "delete data or have the quota raised",
	ErrUnavailable:  "check that the store runs and that this host reaches it",
}

// Error is a request that failed. It never holds a secret.
type Error struct {
	Op        string // "put", "get" …
	Container string // empty for requests on the account
	Object    string // empty for requests on a container
	Status    int    // HTTP status, 0 when no answer came
	Kind      error  // one of the Err values, or the context's error
	Cause     error  // what is known beyond kind and status; may be nil
}

// Error describes the request, the failure and, where there is one, the remedy.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("swift: " + e.Op)
	if e.Container != "" {
		b.WriteString(" " + e.Container)
	}
	if e.Object != "" {
		b.WriteString("/" + e.Object)
	}
	fmt.Fprintf(&b, ": %v", e.Kind)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP status %d)", e.Status)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	if r := remedies[e.Kind]; r != "" {
		b.WriteString("; " + r)
	}
	return b.String()
}

// Unwrap makes both the kind and the cause visible to errors.Is.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// kindOf tells what a status means where the request gives it no special sense.
// The passing ones include 409, which an object request meets when the cluster's
// clocks disagree, 422, a body damaged on its way, and 499, one cut short.
func kindOf(status int) error {
	switch status {
	case 401, 403:
		return ErrUnauthorized
	case 404:
		return ErrNotFound
	case 413:
		return ErrQuota
	case 408, 409, 422, 425, 429, 498, 499:
		return ErrUnavailable
	}
	if status >= 500 {
		return ErrUnavailable
	}
	return ErrRejected
}
