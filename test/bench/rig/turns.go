package rig

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Rounds are the measurements of one side, in the order in which they were made.
type Rounds []float64

// Times returns r in a unit of which x are one.
func (r Rounds) Times(x float64) (list Rounds) {
	for _, y := range r {
		list = append(list, y*x)
	}
	return list
}

// Turns runs two measurements in turn, n times each, after one turn that does not
// count, and returns what they measured.
func Turns(n int, ours, peer func() (float64, error)) (a, z Rounds, err error) {
	for i := range n + 1 {
		x, err := ours()
		if err != nil {
			return nil, nil, err
		}
		y, err := peer()
		if err != nil {
			return nil, nil, fmt.Errorf("peer: %w", err)
		}
		if i > 0 {
			a, z = append(a, x), append(z, y)
		}
	}
	return a, z, nil
}

// Take measures nine times, after once that does not count.
func Take(f func() (float64, error)) (r Rounds, err error) {
	r, _, err = Turns(9, f, func() (float64, error) { return 0, nil })
	return r, err
}

// Seconds is how long f takes.
func Seconds(f func() error) (float64, error) {
	start := time.Now()
	err := f()
	return time.Since(start).Seconds(), err
}

// Workers runs f in n goroutines and returns all their errors.
func Workers(n int, f func(worker int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Noise returns n bytes that do not compress.
func Noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	rng.Read(p)
	return p
}
