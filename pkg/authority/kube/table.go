package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// maxPage is how many objects a request of a listing may ask for: some MiB.
const maxPage = 500

// object is any of the custom resources.
type object struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ObjectMeta `json:"metadata"`
	Content         `json:",inline"`
}

// table is the table of one resource.
type table[T any] struct {
	client         rest.Interface
	resource, kind string
	size           func(T) int64 // bytes, for people to see; nil: records have none
}

// version is uid and resourceVersion: the second alone would be used again by an
// etcd that was restored, for a record made anew.
func version(o *object) authority.Version {
	return authority.Version(string(o.Metadata.UID) + "/" + o.Metadata.ResourceVersion)
}

// at splits a version; of what is none, it makes one that no object has.
func at(v authority.Version) (uid types.UID, resourceVersion string) {
	id, resourceVersion, _ := strings.Cut(string(v), "/")
	return types.UID(id), resourceVersion
}

func (t *table[T]) encode(key string, v T, uid types.UID, resourceVersion string) ([]byte, error) {
	if err := authority.CheckKey(key); err != nil {
		return nil, err
	}
	o := object{
		TypeMeta: metav1.TypeMeta{APIVersion: groupVersion.String(), Kind: t.kind},
		Metadata: metav1.ObjectMeta{Name: key, UID: uid, ResourceVersion: resourceVersion},
		Content:  Content{Format: authority.FormatOf(v), Revision: fmt.Sprintf("%016x", ident.Random64())},
	}
	if t.size != nil {
		o.Content.Size = resource.NewQuantity(t.size(v), resource.BinarySI).String()
	}
	var err error
	if o.Record.Raw, err = json.Marshal(v); err != nil {
		return nil, err
	}
	return json.Marshal(&o)
}

// decode takes in an object that the API server sent. A field of the record that
// this release does not know is an unknown format: an update would drop it.
func (t *table[T]) decode(o *object) (row authority.Row[T], err error) {
	if err := authority.CheckFormat(o.Format, nil); err != nil {
		return row, err
	}
	if o.Metadata.Name == "" || o.Metadata.UID == "" || o.Metadata.ResourceVersion == "" {
		return row, fmt.Errorf("%w: it has no name, uid or resourceVersion", authority.ErrDamaged)
	}
	if err := authority.UnmarshalStrict(o.Record.Raw, &row.Value); err != nil {
		return row, fmt.Errorf("%w: %w", authority.ErrDamaged, err)
	}
	row.Key, row.Version = o.Metadata.Name, version(o)
	return row, authority.CheckFormat(o.Format, row.Value)
}

// Create implements [authority.Table].
func (t *table[T]) Create(ctx context.Context, key string, v T) (authority.Version, error) {
	body, err := t.encode(key, v, "", "")
	if err == nil {
		var row authority.Row[T]
		row, err = t.one(ctx, key, t.client.Post().Resource(t.resource).MaxRetries(0).Body(body))
		if err == nil {
			return row.Version, nil
		}
	}
	if apierrors.IsAlreadyExists(err) {
		err = fmt.Errorf("%w: %w", authority.ErrExists, err)
	}
	return "", t.wrap("create", key, err)
}

// Get implements [authority.Table].
func (t *table[T]) Get(ctx context.Context, key string) (v T, _ authority.Version, err error) {
	row, err := t.one(ctx, key, t.client.Get().Resource(t.resource).Name(key))
	if absent(err) {
		err = fmt.Errorf("%w: %w", authority.ErrNotFound, err)
	}
	return row.Value, row.Version, t.wrap("get", key, err)
}

// Update implements [authority.Table].
func (t *table[T]) Update(ctx context.Context, key string, v T, old authority.Version) (authority.Version, error) {
	uid, resourceVersion := at(old)
	body, err := t.encode(key, v, uid, resourceVersion)
	if err == nil && resourceVersion == "" {
		err = authority.ErrConflict // the API server would take it for "any"
	}
	var row authority.Row[T]
	if err == nil {
		row, err = t.one(ctx, key, t.client.Put().Resource(t.resource).Name(key).MaxRetries(0).Body(body))
	}
	return row.Version, t.wrap("update", key, conflict(err))
}

// Delete implements [authority.Table].
func (t *table[T]) Delete(ctx context.Context, key string, old authority.Version) error {
	uid, resourceVersion := at(old)
	err := authority.CheckKey(key)
	var body []byte
	if err == nil {
		body, err = json.Marshal(&metav1.DeleteOptions{
			TypeMeta:      metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
			Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &resourceVersion},
		})
	}
	if err == nil {
		err = send(ctx, t.client.Delete().Resource(t.resource).Name(key).MaxRetries(0).Body(body), nil)
	}
	return t.wrap("delete", key, conflict(err))
}

// List implements [authority.Table]. A place is the API server's own; all pages of
// a listing are as of its beginning, as long as etcd keeps that (five minutes, say).
// Then the rest is as of now, which the listing may just as well be: what existed
// all the time is in both.
func (t *table[T]) List(ctx context.Context, from authority.Place, limit int) (rows []authority.Row[T], next authority.Place, err error) {
	page, err := t.page(ctx, from, limit)
	if later := placeOfNow(err); later != authority.Beginning {
		page, err = t.page(ctx, later, limit)
	}
	if from != authority.Beginning && (apierrors.IsBadRequest(err) || apierrors.IsResourceExpired(err)) {
		err = fmt.Errorf("%w: %w", authority.ErrPlace, err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("authority: list %s: %w", t.resource, err)
	}
	for i := range page.Items {
		row, err := t.decode(&page.Items[i])
		if err != nil {
			return nil, "", t.wrap("list", page.Items[i].Metadata.Name, err)
		}
		rows = append(rows, row)
	}
	return rows, authority.Place(page.Metadata.Continue), nil
}

// list is a page as the API server sends it.
type list struct {
	Metadata metav1.ListMeta `json:"metadata"`
	Items    []object        `json:"items"`
}

func (t *table[T]) page(ctx context.Context, from authority.Place, limit int) (page list, err error) {
	request := t.client.Get().Resource(t.resource).Param("limit", strconv.Itoa(min(limit, maxPage)))
	if from != authority.Beginning {
		request.Param("continue", string(from))
	}
	return page, send(ctx, request, &page)
}

// placeOfNow is the place where a listing may go on as of now, which the API server
// tells when it has forgotten the state that the listing began with.
func placeOfNow(err error) authority.Place {
	var status apierrors.APIStatus
	if apierrors.IsResourceExpired(err) && errors.As(err, &status) {
		return authority.Place(status.Status().Continue)
	}
	return authority.Beginning
}

// one sends a request that is answered with an object of the key.
func (t *table[T]) one(ctx context.Context, key string, request *rest.Request) (row authority.Row[T], err error) {
	if err := authority.CheckKey(key); err != nil {
		return row, err
	}
	var o object
	if err := send(ctx, request, &o); err != nil {
		return row, err
	}
	if o.Metadata.Name != key {
		return row, fmt.Errorf("%w: it is that of %.200q", authority.ErrDamaged, o.Metadata.Name)
	}
	return t.decode(&o)
}

// send decodes the answer to a request into answer, unless that is nil.
func send(ctx context.Context, request *rest.Request, answer any) error {
	result := request.Do(ctx)
	if err := result.Error(); err != nil || answer == nil {
		return err
	}
	body, err := result.Raw()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("%w: %w", authority.ErrDamaged, err)
	}
	return nil
}

// absent reports whether err says that the object does not exist, and not that
// the API server does not know the resource: then nobody knows which exist.
func absent(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// conflict recognises a failed compare-and-swap.
func conflict(err error) error {
	if apierrors.IsConflict(err) || absent(err) {
		return fmt.Errorf("%w: %w", authority.ErrConflict, err)
	}
	return err
}

// wrap says which record an error is about.
func (t *table[T]) wrap(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("authority: %s %s/%s: %w", verb, t.resource, key, err)
}
