package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/image"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// advice says what can be done about an error. The first match counts; errors
// that say it themselves are not in it.
var advice = []struct {
	err  error
	text string
}{
	{image.ErrInterrupted, "the same command continues; `csi-swiftblock image abort NAME` removes what is stored"},
	{catalog.ErrRolledBack, "the authority is an old copy: restore the newest one, or stop the controllers and see `csi-swiftblock volume recover --dry-run`"},
	{catalog.ErrForeign, "give the cluster that owns it by --cluster"},
	{catalog.ErrLost, "delete the snapshot by `csi-swiftblock snapshot rm`, and take it again"},
	{catalog.ErrUnreachable, "start the export process of the node that holds the volume"},
	{catalog.ErrInUse, "end the pods that use it first"},
	{catalog.ErrBusy, "try again"},
	{catalog.ErrConflict, "choose another name"},
	{catalog.ErrNotReady, "wait until it is made, and try again"},
	{snapshots.ErrUnrelated, "compare snapshots and volumes that come from one volume or image"},
	{delta.ErrLocked, "an export process serves it: take a snapshot instead"},
	{delta.ErrDamaged, "it is kept as it is"},
	{fs.ErrExist, "choose another file, or replace it with --force"},
	{syscall.ENOSPC, "make room on that disk, and give the command again"},
	{syscall.EDQUOT, "make room within the quota of that disk, and give the command again"},
	{context.Canceled, "the command was interrupted, and can be given again"},
}

// explain puts an error on one line, with what can be done about it.
func explain(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	for _, a := range advice {
		if errors.Is(err, a.err) {
			return text + ": " + a.text
		}
	}
	return text
}
