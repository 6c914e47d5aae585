;; Somebody else's filter: it wants an `x-key` of every request, asks the cluster `auth` about it, and takes it
;; off the requests that may pass.
(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call"
    (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $act_for (param i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $resume (param i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))

  (memory (export "memory") 2)
  (data (i32.const 64) "x-key")
  (data (i32.const 80) ":status")
  (data (i32.const 96) "auth")
  (data (i32.const 128)
    "\03\00\00\00" "\07\00\00\00\03\00\00\00" "\05\00\00\00\06\00\00\00" "\0a\00\00\00\04\00\00\00"
    ":method\00GET\00" ":path\00/check\00" ":authority\00auth\00")

  ;; The host writes into one buffer, which is read at once.
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 65536))
  (func (export "proxy_abi_version_0_2_1"))

  (func $refuse (param $status i32)
    (drop (call $reply (local.get $status)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))))

  (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
    (if (call $get (i32.const 0) (i32.const 64) (i32.const 5) (i32.const 0) (i32.const 4))
      (then (call $refuse (i32.const 401)) (return (i32.const 1))))
    (if (call $call (i32.const 96) (i32.const 4) (i32.const 128) (i32.const 69)
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 500) (i32.const 8))
      (then (call $refuse (i32.const 503)) (return (i32.const 1))))
    ;; Who waits for the answer stands at the number of the call.
    (i32.store offset=4096 (i32.shl (i32.load (i32.const 8)) (i32.const 2)) (local.get $context))
    (i32.const 1))

  (func (export "proxy_on_http_call_response") (param $root i32) (param $call i32) (param i32 i32 i32)
    (if (call $get (i32.const 6) (i32.const 80) (i32.const 7) (i32.const 0) (i32.const 4))
      (then (i32.store8 (i32.const 65536) (i32.const 0))))
    (if (call $act_for (i32.load offset=4096 (i32.shl (local.get $call) (i32.const 2)))) (then (return)))
    (if (i32.eq (i32.load8_u (i32.const 65536)) (i32.const 50))
      (then
        (drop (call $remove (i32.const 0) (i32.const 64) (i32.const 5)))
        (drop (call $resume (i32.const 0))))
      (else (call $refuse (i32.const 403))))))
