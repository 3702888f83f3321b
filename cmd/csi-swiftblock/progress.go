package main

import (
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// counter is progressBar for things that are counted.
func counter(out io.Writer, name string) (progress func(done, total int), end func(ok bool)) {
	f, isFile := out.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return nil, func(bool) {}
	}
	bars := mpb.New(mpb.WithOutput(f), mpb.WithWidth(48))
	bar := bars.AddBar(0, mpb.PrependDecorators(decor.Name(name+" ")), mpb.AppendDecorators(decor.Percentage()))
	return func(done, total int) {
			bar.SetTotal(int64(total), false)
			bar.SetCurrent(int64(done))
		}, func(ok bool) {
			finish(bars, bar, ok)
		}
}

// finish ends a bar, as done or as given up.
func finish(bars *mpb.Progress, bar *mpb.Bar, ok bool) {
	if ok {
		bar.SetTotal(-1, true)
	} else {
		bar.Abort(false)
	}
	bars.Wait()
}

// progressBar returns a callback that draws a bar on a terminal and is silent
// elsewhere, and one that ends it.
func progressBar(out io.Writer, name string) (progress func(done, total int64), end func(ok bool)) {
	f, isFile := out.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return nil, func(bool) {}
	}
	bars := mpb.New(mpb.WithOutput(f), mpb.WithWidth(48))
	bar := bars.AddBar(0,
		mpb.PrependDecorators(decor.Name(name+" "), decor.CountersKibiByte("% .1f of % .1f")),
		mpb.AppendDecorators(decor.Percentage(), decor.Name("  "), decor.EwmaSpeed(decor.SizeB1024(0), "% .1f", 30), decor.Name("  "), decor.EwmaETA(decor.ET_STYLE_GO, 30)),
	)
	last := time.Now()
	return func(done, total int64) {
			bar.SetTotal(total, false)
			bar.EwmaSetCurrent(done, time.Since(last))
			last = time.Now()
		}, func(ok bool) {
			finish(bars, bar, ok)
		}
}
