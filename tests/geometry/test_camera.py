"""Cameras against scalar float64 formulas, round trips, gradients."""

import math
from dataclasses import replace

import pytest
import torch

from poseda.errors import ShapeError
from poseda.geometry.camera import (
    Camera,
    denormalise_screen,
    has_extrinsics,
    normalise_screen,
    project_frames,
    vertical,
    world_axes,
)
from poseda.geometry.rigs import list_rigs, load_rig

F64 = torch.float64


def mixed_cameras() -> Camera:
    """One plain, one OpenCV and one Human3.6M camera in a batch."""
    return Camera.create(
        fx=[1500.0, 1684.0, 1145.0],
        fy=[1501.0, 1672.6, 1143.8],
        cx=[1017.0, 939.9, 512.5],
        cy=[1043.0, 560.1, 515.5],
        width=[2048, 1920, 1000],
        height=[2048, 1080, 1002],
        radial=[[0, 0, 0], [-0.277, 0.131, -0.049], [-0.207, 0.248, -0.003]],
        tangential=[[0, 0], [-0.0004, -0.0011], [-0.0014, -0.001]],
        tangential_factor=[2, 2, 1],
        R=load_rig("h36m", F64).cameras.R[:3],
        t=load_rig("h36m", F64).cameras.t[:3],
        dtype=F64,
    )


def random_points(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(*shape, 3, generator=generator, dtype=F64) * 2 - 1
    return points * torch.tensor([900.0, 900.0, 500.0]) + torch.tensor([0.0, 0.0, 4000.0])


def opencv_pixel(point, f, c, k, p):
    """Scalar Brown-Conrady formula as in OpenCV's calibration manual."""
    x, y = point[0] / point[2], point[1] / point[2]
    r2 = x**2 + y**2
    radial = 1 + k[0] * r2 + k[1] * r2**2 + k[2] * r2**3
    u = x * radial + 2 * p[0] * x * y + p[1] * (r2 + 2 * x**2)
    v = y * radial + p[0] * (r2 + 2 * y**2) + 2 * p[1] * x * y
    return f[0] * u + c[0], f[1] * v + c[1]


def human36m_pixel(point, f, c, k, p):
    """Scalar form of Human3.6M's own projection: XX (radial + tan) + r2 (p2, p1), tan = p1 y + p2 x."""
    x, y = point[0] / point[2], point[1] / point[2]
    r2 = x**2 + y**2
    radial = 1 + sum(k[i] * r2 ** (i + 1) for i in range(3))
    tan = p[0] * y + p[1] * x
    u, v = x * (radial + tan) + p[1] * r2, y * (radial + tan) + p[0] * r2
    return f[0] * u + c[0], f[1] * v + c[1]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_projection_of_a_mixed_batch_agrees_with_each_scalar_model(index):
    cameras, points = mixed_cameras(), random_points(3, 2, 5)
    pixels = cameras.project(points)[index].reshape(-1, 2)
    model = human36m_pixel if index == 2 else opencv_pixel
    f, c = (cameras.fx[index], cameras.fy[index]), (cameras.cx[index], cameras.cy[index])
    for point, pixel in zip(points[index].reshape(-1, 3).tolist(), pixels.tolist(), strict=True):
        expected = model(point, f, c, cameras.radial[index].tolist(), cameras.tangential[index].tolist())
        assert pixel == pytest.approx([float(value) for value in expected], abs=1e-9)


def test_each_sample_uses_its_own_camera():
    cameras, points = mixed_cameras(), random_points(3, 4)
    together = cameras.project(points)
    for index in range(3):
        torch.testing.assert_close(cameras[index].project(points[index : index + 1])[0], together[index])


@pytest.mark.parametrize("name", list_rigs())
def test_unproject_inverts_project_over_the_whole_image_of_every_rig(name):
    cameras = load_rig(name, F64).cameras
    steps = torch.linspace(0, 1, 33, dtype=F64)
    grid = torch.cartesian_prod(steps, steps)
    pixels = grid * torch.stack((cameras.width, cameras.height), -1)[:, None]
    rays = cameras.unproject(pixels)
    points = torch.cat((rays, torch.ones_like(rays[..., :1])), -1)
    focal = torch.stack((cameras.fx, cameras.fy), -1)[:, None]
    assert ((cameras.project(points * 3000) - pixels) / focal).abs().max() < 1e-10
    single = cameras.to(dtype=torch.float32).unproject(pixels.float())
    assert (single - rays).abs().max() < 1e-6


def test_unproject_gives_back_the_rays_of_points():
    points = random_points(3, 7)
    rays = mixed_cameras().unproject(mixed_cameras().project(points))
    torch.testing.assert_close(rays, points[..., :2] / points[..., 2:], rtol=0, atol=1e-12)


def test_gradients_of_project_agree_with_finite_differences():
    cameras = mixed_cameras()
    points = random_points(3, 2).requires_grad_()
    assert torch.autograd.gradcheck(cameras.project, (points,), eps=1e-3, atol=1e-4)


def test_gradients_of_unproject_agree_with_finite_differences_for_pixels_and_camera():
    cameras = mixed_cameras()
    pixels = cameras.project(random_points(3, 2)).detach().requires_grad_()

    def rays(pixels, fx, radial):
        return replace(cameras, fx=fx, radial=radial).unproject(pixels)

    inputs = (pixels, cameras.fx.clone().requires_grad_(), cameras.radial.clone().requires_grad_())
    assert torch.autograd.gradcheck(rays, inputs, eps=1e-5, atol=1e-7)


def test_cameras_that_are_known_to_have_no_lens_project_and_unproject_as_with_a_lens_of_zeros():
    bent = mixed_cameras()
    plain = bent.without_lens()
    zeros = replace(plain, radial=plain.radial.requires_grad_())  # no longer known
    assert (bent.pinhole, plain.pinhole, zeros.pinhole) == (False, True, False)
    kept = (plain[torch.tensor([1, 0])], plain[:1], plain[0].expand(3), plain.to(dtype=torch.float32))
    assert all(cameras.pinhole for cameras in (*kept, Camera.cat([plain, plain])))
    assert not Camera.cat([plain, bent]).pinhole
    points = random_points(3, 2)
    pixels = plain.project(points)
    assert torch.equal(pixels, zeros.project(points)) and torch.equal(plain.unproject(pixels), zeros.unproject(pixels))


def test_cameras_are_picked_by_numbers_as_field_by_field():
    cameras = mixed_cameras()
    order = torch.tensor([2, 0, 0, 1])
    picked, learned = cameras[order], replace(cameras, fx=cameras.fx.clone().requires_grad_())[order]
    for name, value in cameras._tensors().items():
        assert torch.equal(getattr(picked, name), value[order])
    assert learned.fx.requires_grad and torch.equal(learned.R, picked.R)
    with pytest.raises(ShapeError, match=r"Camera\.fx"):
        cameras[order.view(2, 2)]


def test_cameras_that_were_picked_in_inference_mode_take_part_in_gradients_later():
    cameras = mixed_cameras()
    order = torch.tensor([2, 0])
    with torch.inference_mode():
        assert len(cameras[order]) == 2
    points = random_points(2, 3).requires_grad_()
    cameras[order].project(points).sum().backward()
    assert bool(points.grad.isfinite().all())


def test_points_on_and_behind_the_camera_plane_are_finite_with_finite_gradients_and_told_apart():
    cameras = mixed_cameras().to(dtype=torch.float32)
    points = torch.tensor([[100.0, -50, 0], [1e5, 1e5, 0], [0, 0, 0], [100, 50, -2000], [10, 10, 3000]])
    points = points.expand(3, 5, 3).clone().requires_grad_()
    pixels = cameras.project(points)
    pixels.sum().backward()
    assert pixels.isfinite().all() and points.grad.isfinite().all()
    assert cameras.in_front(points)[0].tolist() == [False, False, False, False, True]
    assert cameras.in_front(points, minimum=4000).any().item() is False


def test_points_far_outside_the_image_are_not_clamped():
    camera = Camera.create(fx=1000, fy=1000, cx=500, cy=500, width=1000, height=1000)
    pixels = camera.project(torch.tensor([[[30000.0, 0, 1000]]]))
    torch.testing.assert_close(pixels, torch.tensor([[[30500.0, 500]]]))


def test_world_and_camera_frames_are_inverse_and_the_centre_maps_to_zero():
    cameras, points = mixed_cameras(), random_points(3, 2, 4)
    torch.testing.assert_close(cameras.camera_to_world(cameras.world_to_camera(points)), points)
    expected = torch.einsum("nij,ntkj->ntki", cameras.R, points) + cameras.t[:, None, None]
    torch.testing.assert_close(cameras.world_to_camera(points), expected)
    origin = cameras.world_to_camera(cameras.centre())
    torch.testing.assert_close(origin, torch.zeros(3, 3, dtype=F64), rtol=0, atol=1e-9)


def test_screen_normalisation_is_by_the_width_and_inverts():
    pixels = torch.tensor([[[0.0, 0.0], [1000.0, 1002.0]], [[960.0, 540.0], [1920.0, 1080.0]]])
    width, height = torch.tensor([1000.0, 1920.0]), torch.tensor([1002.0, 1080.0])
    expected = torch.tensor([[[-1, -1.002], [1, 1.002]], [[0, 0], [1, 0.5625]]])
    torch.testing.assert_close(normalise_screen(pixels, width, height), expected)
    torch.testing.assert_close(denormalise_screen(expected, width, height), pixels, rtol=0, atol=1e-3)
    torch.testing.assert_close(normalise_screen(pixels[0], 1000.0, 1002), expected[0])
    torch.testing.assert_close(normalise_screen(pixels[:1], 1000.0, height[:1]), expected[:1])


def test_create_fills_in_defaults_and_repeats_what_is_given_once():
    cameras = Camera.create(fx=[1.0, 2.0], fy=1.0, cx=0, cy=0, width=10, height=20, t=[1.0, 2, 3])
    assert len(cameras) == 2 and cameras.dtype == torch.float32
    assert torch.equal(cameras.R, torch.eye(3).expand(2, 3, 3))
    assert cameras.t.tolist() == [[1, 2, 3], [1, 2, 3]]
    assert cameras.tangential_factor.tolist() == [2, 2]


def test_indexing_keeps_the_batch_dimension():
    cameras = mixed_cameras()
    assert len(cameras[0]) == len(cameras[-1]) == 1
    assert cameras[-1].fx.item() == 1145.0
    assert cameras[torch.tensor([2, 0, 2])].fx.tolist() == [1145, 1500, 1145]
    assert cameras[torch.tensor([False, True, True])].fx.tolist() == [1684, 1145]
    assert len(cameras[1:]) == 2


def test_cat_and_expand_and_to():
    cameras = mixed_cameras()
    assert len(Camera.cat([cameras, cameras[:1]])) == 4
    assert cameras[0].expand(5).R.shape == (5, 3, 3)
    assert cameras.to(dtype=torch.float32).t.dtype == torch.float32
    assert cameras.device == torch.device("cpu")
    with pytest.raises(ShapeError, match="expected 1 camera, got 3"):
        cameras.expand(5)


def test_a_field_of_the_wrong_shape_is_named():
    with pytest.raises(ShapeError, match=r"Camera\.radial: expected shape \(1, 3\), got \(1, 5\)"):
        Camera.create(fx=1, fy=1, cx=0, cy=0, width=1, height=1, radial=[0.0] * 5)


def test_projection_does_not_lose_digits_under_autocast():
    cameras, points = mixed_cameras().to(dtype=torch.float32), random_points(3, 4).float()
    expected = cameras.project(cameras.world_to_camera(points))
    with torch.autocast("cpu", torch.bfloat16):
        seen = cameras.project(cameras.world_to_camera(points))
    torch.testing.assert_close(seen, expected)


def test_field_of_view_matches_the_focal_length():
    camera = Camera.create(fx=1000, fy=1000, cx=500, cy=500, width=1000, height=1000, dtype=F64)
    edges = camera.unproject(torch.tensor([[[0.0, 500], [1000, 500]]], dtype=F64))[0, :, 0]
    assert float(edges.atan().diff()) == pytest.approx(2 * math.atan(0.5))


@pytest.mark.parametrize("count", [1, 25])
def test_many_frames_are_projected_a_piece_at_a_time_to_the_same_pixels(count):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(25, 17, 3, generator=generator) * 300 + torch.tensor([0.0, 0.0, 4000.0])
    focal = torch.linspace(900.0, 1200.0, count)
    rest = {"fy": 1000.0, "cx": 500.0, "cy": 500.0, "width": 1000.0, "height": 1000.0, "radial": [-0.2, 0.2, 0.0]}
    cameras = Camera.create(fx=focal, **rest)
    whole = (cameras.expand(25) if count == 1 else cameras).project(points)
    torch.testing.assert_close(project_frames(cameras, points, chunk=7), whole, rtol=0, atol=0)


@pytest.mark.parametrize("t", [0.0, 1000.0])
def test_a_camera_that_was_not_told_how_it_stands_is_taken_to_stand_level(t):
    unknown = Camera.create(fx=1000.0, fy=1000.0, cx=500.0, cy=500.0, width=1000.0, height=1000.0, t=[[0.0, t, 0.0]])
    assert not bool(has_extrinsics(unknown))
    assert vertical(unknown)[0].tolist() == [0.0, -1.0, 0.0]
    assert torch.linalg.det(world_axes(unknown)[0]) == pytest.approx(1.0)
    known = load_rig("h36m").cameras
    assert bool(has_extrinsics(known).all())
    assert torch.equal(world_axes(known), known.R)
    assert torch.equal(vertical(known), known.R[:, :, 2])
