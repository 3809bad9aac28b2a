//! containerd's own client, which asks the token endpoint by POST with the password.

use crate::world::{World, refused};
use portcullis_tests::command::Run;
use portcullis_tests::image::Manifest;
use portcullis_tests::machine::alone;
use portcullis_tests::persona::Robot;
use portcullis_tests::process::{Process, need_program, owned};

struct Containerd<'a> {
    world: &'a World,
    _daemon: Process,
}

impl<'a> Containerd<'a> {
    #[track_caller]
    fn start(world: &'a World) -> Containerd<'a> {
        let config = world.path("containerd.toml");
        let (root, state) = (world.path("containerd-root"), world.path("containerd-state"));
        let text = format!(
            "version = 2\nroot = '{}'\nstate = '{}'\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{}'\n",
            root.display(),
            state.display(),
            world.path("containerd.sock").display(),
        );
        std::fs::write(&config, text).expect("our own directory");
        let mut command = owned(need_program(&["containerd"]));
        command.arg("--config").arg(config);
        let mut daemon = Process::start("containerd", command, &world.path("containerd.log"));
        let containerd = |daemon| Containerd { world, _daemon: daemon };
        daemon.wait_ready(|_| {
            let version = ctr(world).arg("version").run();
            (version.code == Some(0)).then_some(())
        });
        containerd(daemon)
    }

    fn images(&self, verb: &str, who: &Robot) -> Run {
        ctr(self.world)
            .args(["images", verb, "--hosts-dir", "/etc/docker/certs.d", "--user"])
            .arg(format!("{}:{}", who.username, who.token))
    }

    #[track_caller]
    fn import(&self, name: &str, image: &Manifest) {
        image.write_layout(&self.world.path("layout"), "latest");
        let archive = self.world.path("layout.tar");
        let tar = Run::new("tar").arg("-C").arg(self.world.path("layout")).arg("-cf").arg(&archive);
        tar.arg(".").succeeds();
        let import = ctr(self.world).args(["images", "import", "--no-unpack", "--index-name", name]);
        import.arg(archive).succeeds();
    }
}

#[test]
fn containerd_pushes_and_pulls_with_a_password_posted_to_the_token_endpoint() {
    alone(|| {
        let world = World::new();
        let containerd = Containerd::start(&world);
        let image = Manifest::image(2, 100_000);
        let name = world.image("acme/app:1");
        containerd.import(&name, &image);
        containerd.images("push", &world.acme.push).arg(&name).succeeds();
        ctr(&world).args(["images", "remove", "--sync", &name]).succeeds();
        // Fetching needs no snapshots, which pulling does.
        ctr(&world)
            .args(["content", "fetch", "--hosts-dir", "/etc/docker/certs.d", "--user"])
            .arg(format!("{}:{}", world.acme.pull.username, world.acme.pull.token))
            .arg(&name)
            .succeeds();
        let foreign = world.image("globex/app:1");
        refused(&containerd.images("push", &world.acme.push).args([&foreign, &name]).fails());
        refused(&containerd.images("pull", &world.acme.pull).arg(&foreign).fails());
    });
}

fn ctr(world: &World) -> Run {
    world.run("ctr").arg("--address").arg(world.path("containerd.sock"))
}
