package main

import (
	"math/rand/v2"
	"net"
)

// corrupting is a listener on a bad network: of the bytes that its connections carry,
// one bit is flipped about once in every so many, in either direction.
type corrupting struct {
	net.Listener
	every int
}

func (c corrupting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &badConn{Conn: conn, in: badWire{every: c.every}, out: badWire{every: c.every}}, nil
}

type badConn struct {
	net.Conn
	in, out badWire // each used by one goroutine at a time
}

// badWire is one direction of a connection. The login, which no digest covers, comes
// through: spared is more than it takes.
type badWire struct{ every, passed int }

const spared = 64 << 10

func (w *badWire) carry(p []byte) {
	w.passed += len(p)
	if len(p) > 0 && w.passed > spared && rand.IntN(w.every) < len(p) {
		p[rand.IntN(len(p))] ^= 1 << rand.IntN(8)
	}
}

func (c *badConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.carry(p[:n])
	return n, err
}

func (c *badConn) Write(p []byte) (int, error) {
	sent := append([]byte(nil), p...)
	c.out.carry(sent)
	return c.Conn.Write(sent)
}
