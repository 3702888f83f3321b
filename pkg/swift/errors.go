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
	ErrQuota:        "delete data or have the quota of the account raised",
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
	b.WriteString("swift: ")
	b.WriteString(e.Op)
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

// kindOf tells what a status means. 404 of a request on an account does not
// happen with a working set-up, so one meaning per status suffices.
func kindOf(status int) error {
	switch status {
	case 401, 403:
		return ErrUnauthorized
	case 404:
		return ErrNotFound
	case 409:
		return ErrNotEmpty
	case 412:
		return ErrExists
	case 413:
		return ErrQuota
	case 416:
		return ErrRange
	}
	if passing(status) {
		return ErrUnavailable
	}
	return ErrRejected
}

// passing reports whether the same request may succeed later. 422 says that the
// body was damaged on its way, and 499 that it was cut short.
func passing(status int) bool {
	switch status {
	case 408, 422, 425, 429, 498, 499:
		return true
	}
	return status >= 500
}
