;; Traps in its first call.
;; hooks: request
(func $on-request (param $args i32) (result i32) (unreachable))
