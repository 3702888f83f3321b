package snapshots

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync/atomic"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// page is a page of tables, fetched when it is needed. Tables that have the
// page in common share it.
type page struct {
	pageRef
	list atomic.Pointer[entries] // nil until fetched
	turn chan struct{}           // holds a token while someone fetches
}

// newPage makes a page; list is nil if it is yet to be fetched.
func newPage(ref pageRef, list *entries) *page {
	p := &page{pageRef: ref, turn: make(chan struct{}, 1)}
	p.list.Store(list)
	return p
}

// load returns the page's entries, fetching them if nobody did. Of those who
// need them at the same time one fetches; if it fails or gives up, the next one
// tries for itself.
func (p *page) load(ctx context.Context, store swift.Store, containers []Container) (*entries, error) {
	if list := p.list.Load(); list != nil {
		return list, nil
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if list := p.list.Load(); list != nil {
		return list, nil
	}
	object, err := Fetch(ctx, store, p.location(), swift.GetOptions{})
	if err != nil {
		return nil, err
	}
	list, err := decodePage(p.pageRef, object.Body, containers)
	if err != nil {
		return nil, damaged(p.location(), err)
	}
	p.list.Store(list)
	return list, nil
}

// encodePage returns the object of a page at ref and completes ref by its hash.
func encodePage(ref *pageRef, list *entries, d *dictionary) ([]byte, error) {
	object, err := enclose(kindPage, ref.location(), list.append(nil, d))
	if err != nil {
		return nil, err
	}
	ref.hash = sha256.Sum256(object)
	return object, nil
}

func decodePage(ref pageRef, object []byte, containers []Container) (*entries, error) {
	if sha256.Sum256(object) != ref.hash {
		return nil, errors.New("wrong hash")
	}
	fields, err := disclose(kindPage, ref.location(), object)
	if err != nil {
		return nil, err
	}
	list := readEntries(fields, containers, PageChunks, PageChunks, false)
	return list, fields.End()
}
