"""Listing folders: natural order, no junk, no endless loops."""

from data.folders import is_image, is_junk, natural_key, walk_images


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_links_that_loop_end(tmp_path):
    put(tmp_path / "test" / "a" / "1.jpg")
    (tmp_path / "test" / "a" / "up").symlink_to("..")
    (tmp_path / "test" / "self").symlink_to("self")
    (tmp_path / "test" / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "test" / "b").symlink_to("a")
    assert walk_images(tmp_path / "test") == ["a/1.jpg", "b/1.jpg", "gone.jpg"]


def test_natural_key():
    names = ["image_10.jpg", "image_2.jpg", "1.jpg", "image_02.jpg", "image.jpg", "10.jpg"]
    expected = ["1.jpg", "10.jpg", "image.jpg", "image_02.jpg", "image_2.jpg", "image_10.jpg"]
    assert sorted(names, key=natural_key) == expected


def test_what_counts_as_an_image():
    assert all(map(is_image, ["a.jpg", "A.JPEG", "1.Png", "x.tar.webp", "é.tif"]))
    assert not any(map(is_image, ["a.txt", "jpg", ".jpg", "._a.jpg", ".a.png", "Thumbs.db", "a."]))
    assert all(map(is_junk, ["__MACOSX", ".git", "._x", "Thumbs.db"]))
