package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// volumeView is a volume as the commands show it.
type volumeView struct {
	ID         ident.Volume        `json:"id"`
	Name       string              `json:"name"`
	Size       int64               `json:"size"` // bytes
	State      string              `json:"state"`
	Node       string              `json:"node,omitempty"`
	Created    time.Time           `json:"created"`
	Source     *sourceView         `json:"source,omitempty"`
	Parameters map[string]string   `json:"parameters,omitempty"`
	Container  string              `json:"container"`
	Epoch      uint64              `json:"epoch,omitempty"`
	Head       *authority.Root     `json:"head,omitempty"`
	Recovered  *authority.Recovery `json:"recovered,omitempty"`
}

type sourceView struct {
	Volume   ident.Volume   `json:"volume,omitempty"`
	Snapshot ident.Snapshot `json:"snapshot,omitempty"`
}

// The states of a volume that exists, from least to most in use.
const (
	stateDetached  = "detached"
	statePublished = "published" // to a node, which has not opened it
	stateRead      = "read"      // by nodes, of which the first is shown
	stateOpen      = "open"      // a node's journal may hold what Swift does not
)

func viewVolume(v authority.Volume) volumeView {
	view := volumeView{
		ID: v.ID, Name: v.Name, Size: v.Size, State: stateDetached, Created: v.Created, Parameters: v.Parameters,
		Container: v.Container, Epoch: v.Opening.Epoch.Number, Head: v.Head, Recovered: v.Recovered,
	}
	if v.Binding != nil {
		view.State, view.Node = statePublished, v.Binding.Node
	}
	if len(v.Readers) > 0 {
		view.State, view.Node = stateRead, v.Readers[0].Node
	}
	if v.Opening.Open {
		view.State, view.Node = stateOpen, v.Opening.Node
	}
	if v.Origin != nil {
		view.Source = &sourceView{Volume: v.Origin.Volume, Snapshot: v.Origin.Snapshot}
	}
	return view
}

// inspection is what `volume inspect` shows.
type inspection struct {
	volumeView
	Published *publishedView   `json:"published,omitempty"` // nil: blank
	Snapshots []ident.Snapshot `json:"snapshots"`
	Clones    []ident.Volume   `json:"clones"`
}

// publishedView is what the root in Swift says.
type publishedView struct {
	Sealed     time.Time `json:"sealed"` // the age of the data
	Clean      bool      `json:"clean"`  // closed in good order after it
	Formatted  bool      `json:"formatted"`
	Chunks     int       `json:"chunks"`  // that hold data, of 8 MiB
	Patches    int       `json:"patches"` // pieces of packs laid over them
	Containers []string  `json:"containers"`
}

func (s *session) inspect(ctx context.Context, v authority.Volume) (inspection, error) {
	i := inspection{volumeView: viewVolume(v), Snapshots: []ident.Snapshot{}, Clones: []ident.Volume{}}
	err := s.eachSnapshot(ctx, func(other authority.Snapshot) error {
		if other.Source == v.ID {
			i.Snapshots = append(i.Snapshots, other.ID)
		}
		return nil
	})
	if err != nil {
		return i, err
	}
	for row, err := range authority.All(ctx, s.records.Pins()) {
		if err != nil {
			return i, err
		}
		if row.Value.Owner == v.ID {
			i.Clones = append(i.Clones, row.Value.Child)
		}
	}
	root, err := s.root(ctx, v.Head)
	if root == nil || err != nil {
		return i, err
	}
	p := &publishedView{Sealed: root.State.Sealed, Clean: root.State.Clean, Formatted: root.State.Mark == snapshots.Formatted, Containers: []string{}}
	for _, container := range root.Containers {
		p.Containers = append(p.Containers, container.Name)
	}
	for e, err := range snapshots.OpenTable(s.store, root).Entries(ctx) {
		if err != nil {
			return i, err
		}
		p.Chunks++
		p.Patches += len(e.Patches)
	}
	i.Published = p
	return i, nil
}

// root loads a root that the authority records; nil stays nil.
func (s *session) root(ctx context.Context, r *authority.Root) (*snapshots.Root, error) {
	if r == nil {
		return nil, nil
	}
	return snapshots.LoadRoot(ctx, s.store, r.Container, snapshots.RefOf(*r))
}

// print shows an inspection to people, a line for each fact.
func (i inspection) print(w io.Writer) {
	row(w, "ID", i.ID)
	row(w, "Name", printable(i.Name))
	row(w, "Size", fmt.Sprintf("%s (%d bytes)", sizeText(i.Size), i.Size))
	row(w, "State", i.State)
	row(w, "Node", orDash(i.Node))
	row(w, "Created", timeText(i.Created))
	switch {
	case i.Source == nil:
	case i.Source.Snapshot != "":
		row(w, "Made from", "snapshot "+i.Source.Snapshot)
	default:
		row(w, "Made from", "volume "+i.Source.Volume)
	}
	row(w, "Parameters", parametersText(i.Parameters))
	row(w, "Container", i.Container)
	row(w, "Epoch", i.Epoch)
	if i.Recovered != nil {
		row(w, "Recovered", fmt.Sprintf("%s, without node %s; its writes after %s are lost",
			timeText(i.Recovered.At), printable(i.Recovered.Node), timeText(i.Recovered.Newest)))
	}
	if p := i.Published; p == nil {
		row(w, "Published", "nothing yet")
	} else {
		row(w, "Published", fmt.Sprintf("generation %d of epoch %d, sealed %s", i.Head.Generation, i.Head.Epoch.Number, timeText(p.Sealed)))
		row(w, "Closed cleanly", p.Clean)
		row(w, "Formatted", p.Formatted)
		row(w, "Data", fmt.Sprintf("%d chunks of %s, %d patches", p.Chunks, sizeText(chunks.Size), p.Patches))
		for _, container := range p.Containers {
			row(w, "Objects in", container)
		}
	}
	for _, id := range i.Snapshots {
		row(w, "Snapshot", id)
	}
	for _, id := range i.Clones {
		row(w, "Clone", id)
	}
}
