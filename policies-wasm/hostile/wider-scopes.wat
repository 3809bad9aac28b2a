;; Gives a token for everything, for ever.
;; hooks: token
(data (i32.const 4096) "repository")
(data (i32.const 4112) "acme/**")
(data (i32.const 4120) "*")
(func $on-token (param $args i32) (result i32)
  (if (call $is-smoke (local.get $args)) (then (return (i32.const 512))))
  ;; actions: ["*"]
  (i32.store (i32.const 700) (i32.const 4120))
  (i32.store (i32.const 704) (i32.const 1))
  ;; scopes: [repository:acme/**:*]
  (i32.store (i32.const 720) (i32.const 4096))
  (i32.store (i32.const 724) (i32.const 10))
  (i32.store (i32.const 728) (i32.const 4112))
  (i32.store (i32.const 732) (i32.const 7))
  (i32.store (i32.const 736) (i32.const 700))
  (i32.store (i32.const 740) (i32.const 1))
  ;; narrow({scopes, ttl-s: 300})
  (i32.store8 (i32.const 640) (i32.const 1))
  (i32.store (i32.const 644) (i32.const 720))
  (i32.store (i32.const 648) (i32.const 1))
  (i32.store (i32.const 652) (i32.const 300))
  (i32.const 640))
