package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/attach"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

func journalCommand() *cobra.Command {
	return group("journal", "List, rescue and discard journals on this node",
		journalListCommand(), journalExportCommand(), journalDiscardCommand())
}

// stateFlag is where an export process keeps its journals.
type stateFlag struct{ dir string }

func (f *stateFlag) add(c *cobra.Command) {
	c.Flags().StringVar(&f.dir, "state", defaultJournals, "directory of the journals")
	c.MarkFlagDirname("state")
}

// journal is a journal with its name: <volume>/<epoch>.
type journal struct{ attach.Journal }

func (j journal) name() string { return string(j.Volume) + "/" + j.Epoch.String() }

func (f *stateFlag) list() ([]journal, error) {
	found, err := attach.Journals(f.dir)
	if err != nil {
		return nil, fmt.Errorf("%w: give the directory of the export process by --state", err)
	}
	list := make([]journal, len(found))
	for i := range found {
		list[i] = journal{found[i]}
	}
	return list, nil
}

func (f *stateFlag) find(name string) (journal, error) {
	list, err := f.list()
	if err != nil {
		return journal{}, err
	}
	for _, j := range list {
		if j.name() == name {
			return j, nil
		}
	}
	return journal{}, notThere(fmt.Sprintf("no journal in %s has the name %.200q: see `csi-swiftblock journal ls`", f.dir, name))
}

// complete offers the journals that are lost.
func (f *stateFlag) complete(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	list, err := f.list()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var words []cobra.Completion
	for _, j := range list {
		if j.Lost {
			words = append(words, cobra.CompletionWithDesc(j.name(), "lost "+timeText(j.Since)))
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// journalView is a journal as the commands show it.
type journalView struct {
	Journal string       `json:"journal"`
	Volume  ident.Volume `json:"volume"`
	Epoch   uint64       `json:"epoch"`
	Lost    bool         `json:"lost"`
	Since   time.Time    `json:"since"`
	Bytes   int64        `json:"bytes"` // on the disk
}

func (j journal) view() journalView {
	return journalView{j.name(), j.Volume, j.Epoch.Number, j.Lost, j.Since, j.Bytes}
}

func journalListCommand() *cobra.Command {
	var state stateFlag
	var out output
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the journals on this node",
		Long: `List the journals on this node.

A journal is "lost" when its volume was taken over without it, since the node did
not answer: what it held and had not uploaded is in no version of the volume. It is
kept for rescue by "journal export", until "journal discard".`,
		Example:           `  csi-swiftblock journal ls --json | jq '.[] | select(.lost)'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := state.list()
			if err != nil {
				return err
			}
			views := []journalView{}
			for _, j := range list {
				views = append(views, j.view())
			}
			return out.print(c, views, func(w io.Writer) {
				row(w, "JOURNAL", "STATE", "SINCE", "ON DISK")
				for _, v := range views {
					state := "kept"
					if v.Lost {
						state = "lost"
					}
					row(w, v.Journal, state, timeText(v.Since), sizeText(v.Bytes))
				}
			})
		},
	}
	state.add(c)
	out.add(c)
	return c
}

func journalDiscardCommand() *cobra.Command {
	var state stateFlag
	var out output
	c := &cobra.Command{
		Use:   "discard JOURNAL...",
		Short: "Delete lost journals",
		Long: `Delete lost journals. What they hold cannot be had back. A journal that is not
lost is refused: its export process will upload it.`,
		Example:           `  csi-swiftblock journal discard 4f…c2/00000003-9a…1b`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: state.complete,
		RunE: func(c *cobra.Command, args []string) error {
			return remove(c, out, args, "journal", func(_ context.Context, name string) (string, error) {
				j, err := state.find(name)
				if err == nil {
					err = j.Discard()
				}
				if errors.Is(err, attach.ErrKept) {
					err = fmt.Errorf("%w: only lost journals can be discarded", err)
				}
				return name, err
			})
		},
	}
	state.add(c)
	out.add(c)
	return c
}
