package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const patience = 2 * time.Second

// get prints the body of one GET on a fresh connection.
func get(url string) error {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

// udp prints the answer to one packet from a fresh port.
func udp(address string) error {
	socket, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := socket.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := socket.Write([]byte("?")); err != nil {
		return err
	}
	packet := make([]byte, 2048)
	length, err := socket.Read(packet)
	if err != nil {
		return err
	}
	fmt.Print(string(packet[:length]))
	return nil
}
